"""A distribution over the items that may be shown, in the bundle that a user takes away."""

from prefrec_ray.policy.bundle import DETERMINISTIC, Policy, Served

__all__ = ["DETERMINISTIC", "Policy", "Served"]
