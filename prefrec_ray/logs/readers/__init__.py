"""Readers, one per source. Each returns the canonical table of interactions."""
