"""A short-video platform with a known law of users. It writes logs, and rolls out policies."""
