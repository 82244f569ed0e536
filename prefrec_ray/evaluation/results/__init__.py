"""Records of an evaluation, intervals and verdicts."""
