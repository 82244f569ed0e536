"""One reader per source; each gives the canonical table of interactions."""
