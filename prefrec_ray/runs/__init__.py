"""Training runs, resumed runs, export of policies, and sweeps."""
