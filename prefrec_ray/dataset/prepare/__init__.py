"""Preparation of a log on Ray: states, transitions and preferences. `run.prepare` calls one file per stage."""
