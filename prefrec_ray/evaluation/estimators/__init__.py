"""Estimators of a policy's value, one per file, and `evaluate`, which runs them."""
