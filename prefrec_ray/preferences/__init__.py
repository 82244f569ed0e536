"""Preferences between segments of histories: pairs, scripted teachers, labels."""
