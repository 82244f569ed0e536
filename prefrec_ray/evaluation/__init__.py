"""What a policy is worth by logged sessions: NCIS, fitted-Q and doubly robust, beside placebos and controls."""
