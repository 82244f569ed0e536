"""The networks that are trained and served."""
