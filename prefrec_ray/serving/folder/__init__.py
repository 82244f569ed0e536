"""The server's folder on disk: items, snapshots and the opened log."""
