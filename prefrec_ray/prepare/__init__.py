"""Logs become a data set of states, transitions and preferences, on Ray: `run.prepare`, and a file a stage."""
