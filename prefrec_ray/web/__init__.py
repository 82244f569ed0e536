"""Shared parts of the HTTP servers: address, token, limits, errors."""
