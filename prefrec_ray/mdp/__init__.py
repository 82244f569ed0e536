"""The decision process: items as actions, causal state vectors, their scaling, transitions."""
