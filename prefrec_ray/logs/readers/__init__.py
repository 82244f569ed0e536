"""A reader a source: each gives the canonical table of interactions."""
