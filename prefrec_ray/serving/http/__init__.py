"""The HTTP app and its process."""
