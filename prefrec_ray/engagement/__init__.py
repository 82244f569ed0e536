"""Sessions, their depth and revisit time, and the levels that measure change in long-term engagement."""
