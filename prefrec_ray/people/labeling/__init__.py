"""People compare histories in a browser."""
