"""What a policy is worth by logged sessions: NCIS, fitted-Q and doubly robust, beside controls that know nothing."""
