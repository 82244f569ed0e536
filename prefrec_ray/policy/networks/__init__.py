"""Networks of all methods, for training and serving."""
