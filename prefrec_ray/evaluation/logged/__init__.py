"""Sessions and histories of the log, and models of the logging policy."""
