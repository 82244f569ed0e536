"""Sessions, their depth and revisit time, and the levels that compare them with the user's mean."""
