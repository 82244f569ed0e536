"""Preferences from annotators: questions, votes and their aggregation."""
