"""The labelling page: annotators compare histories in a browser."""
