"""Figures and tables of runs and their evaluation, on one HTML page."""
