"""Base classes of all methods: config, algorithm, learner, module, diagnostics."""
