"""Report pages: figures and tables of runs and evaluations in one HTML file."""
