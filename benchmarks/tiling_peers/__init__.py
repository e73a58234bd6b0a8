"""The peers of benchmarks/tiling.py: one worker script each (serve_*.py), the slides they read, and the arithmetic of the comparison."""
