"""The workloads of the benchmark, their timing and comparisons."""
