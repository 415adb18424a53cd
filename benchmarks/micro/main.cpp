// Google Benchmark's main, with the image to measure on in PYRAM_IMAGE.
#include <benchmark/benchmark.h>

BENCHMARK_MAIN();
