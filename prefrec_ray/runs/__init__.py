"""A training run, from start or from its last checkpoint, to a policy; and searches of many."""
