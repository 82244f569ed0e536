"""The loop of a policy a night, promoted by its verdict alone."""
