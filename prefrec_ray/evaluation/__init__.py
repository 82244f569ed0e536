"""Off-policy evaluation: estimators, controls, intervals and verdicts."""
