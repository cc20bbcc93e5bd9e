"""Run directories: training, logs, loading."""
