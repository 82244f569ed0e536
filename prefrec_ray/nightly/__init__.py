"""The loop that trains one policy per night and releases it in stages."""
