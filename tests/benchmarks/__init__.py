"""Benchmarks: `make bench BENCH=name` prints one JSON object a line, `make bars` the table of all."""
