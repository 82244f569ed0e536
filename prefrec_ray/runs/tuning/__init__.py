"""Sweeps: trials of grids, ablations and searches by Ray Tune on one copy of the data."""
