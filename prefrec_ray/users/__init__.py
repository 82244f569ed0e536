"""Models of users, fitted on the log: their inputs, roll-outs of policies in them, and support by the log."""

#: Impressions of a roll-out until running means do not depend on its start. Support uses later impressions.
WARM = 24
