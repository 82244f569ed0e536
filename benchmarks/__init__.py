"""Measurements at full size: `python -m benchmarks.NAME`."""
