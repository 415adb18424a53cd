"""Pyram's benchmarks: see benchmarks/README.md and benchmarks/run."""
