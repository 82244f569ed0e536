"""Policies: distributions over items, in a bundle of plain files."""

from prefrec_ray.policy.bundle import DETERMINISTIC, Policy, Served

__all__ = ["DETERMINISTIC", "Policy", "Served"]
