"""A log becomes a data set of states, transitions and preferences, on Ray: `run.prepare`, and one file per stage."""
