"""Searches and ablations: many trials by Ray Tune on one copy of the data."""
