"""Server state in memory: users, items, policies and arms."""
