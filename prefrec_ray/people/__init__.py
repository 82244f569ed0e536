"""Preferences from people: pairs to ask about, what an annotator sees of them, and what becomes of the answers."""
