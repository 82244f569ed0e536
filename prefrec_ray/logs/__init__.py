"""Raw logs, converted to one canonical table of interactions."""
