"""Logged sessions and trajectories."""
