"""Jobs on a running cluster: checks before a run, and submission."""
