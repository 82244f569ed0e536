"""Inspection of raw logs and of the teachers of a data set, before a run."""
