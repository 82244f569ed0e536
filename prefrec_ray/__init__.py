"""Recommendation policies for long-term engagement, learned from preferences, trained on Ray."""

__version__ = "0.1.0"
