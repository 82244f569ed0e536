"""The decision process: items as actions, causal user states, their scaling, transitions."""
