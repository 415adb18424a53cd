"""One module for each kind of work that is measured; benchmarks/run finds them by their names."""
