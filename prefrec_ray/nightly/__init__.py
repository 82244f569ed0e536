"""The loop: a policy a night, promoted by its verdict alone."""
