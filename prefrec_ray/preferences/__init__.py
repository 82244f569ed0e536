"""Preferences between segments of histories: pairs, scripted teachers and their labels."""
