"""Sessions, depth, revisit times and levels relative to the user's mean."""
