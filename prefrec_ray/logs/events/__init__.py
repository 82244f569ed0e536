"""The append-only log of what was shown and what users did."""
