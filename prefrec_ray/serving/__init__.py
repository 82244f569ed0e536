"""HTTP server of a policy, with an event log and experiment arms."""
