"""A short-video platform with a known truth: it writes logs, and rolls policies out."""
