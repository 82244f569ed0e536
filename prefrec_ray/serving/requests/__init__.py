"""HTTP requests as rows of the event log."""
