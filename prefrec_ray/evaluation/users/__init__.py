"""The model of users, its inputs, roll-outs and support by the log."""
