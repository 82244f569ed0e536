"""The labeling page: annotators compare histories in a browser."""
