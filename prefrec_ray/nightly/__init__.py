"""The loop that trains one policy per night and promotes it only by its verdict."""
