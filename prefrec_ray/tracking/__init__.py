"""Tracked runs at MLflow and Weights & Biases, and policies as models of MLflow."""
