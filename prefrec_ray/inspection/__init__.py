"""Inspection before anything is run: what a raw log holds, and what the teachers of a data set measure."""
