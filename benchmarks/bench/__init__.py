"""What the benchmarks share: workloads, the arithmetic floor, one module for each side that is measured."""
