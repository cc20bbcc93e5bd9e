"""The command line, tuned presets, studies and benchmarks."""
