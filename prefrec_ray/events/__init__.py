"""What a server has shown and heard: an append-only log, which is the truth."""
