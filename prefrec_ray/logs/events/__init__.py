"""The append-only event log of impressions and feedback."""
