"""The page of a sweep: loaded, scored, drawn."""
