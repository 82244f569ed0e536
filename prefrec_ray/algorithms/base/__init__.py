"""What every method extends: config, algorithm, learner, module, losses, diagnostics."""
