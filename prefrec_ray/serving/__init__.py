"""A policy answers over HTTP: users' states, the log of what was shown and done, arms, and what tells them apart."""
