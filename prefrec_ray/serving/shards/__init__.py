"""Several servers on a Ray cluster behind one gateway."""
