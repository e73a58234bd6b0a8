"""The peers of benchmarks/radiomics.py: their environments, one worker script each (serve_*.py), and the arithmetic of the comparison."""
