"""Runs on a cluster that stands: submitted as jobs, checked beforehand."""
