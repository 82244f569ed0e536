"""Validation scores, and the choice of checkpoints, trials and serving rules."""
