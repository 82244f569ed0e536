"""Comparison of experiment arms."""
