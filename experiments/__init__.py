"""The command line, studies and benchmarks."""
