"""A training run, from start or from its last checkpoint, to a policy: its folder, and how it gets there."""
