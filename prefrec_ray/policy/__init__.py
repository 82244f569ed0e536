"""Policies: distributions over items, in a bundle of plain files."""

from prefrec_ray.policy.bundle import DETERMINISTIC
from prefrec_ray.policy.policy import Policy, Served

__all__ = ["DETERMINISTIC", "Policy", "Served"]
