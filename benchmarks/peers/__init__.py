"""What the benchmarks share: environments of peers, the benchmark's side of a worker process, and the worker's side."""
