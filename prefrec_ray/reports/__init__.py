"""Figures and tables of runs and their evaluation, on one HTML page."""

from prefrec_ray.reports.page import write_report

__all__ = ["write_report"]
