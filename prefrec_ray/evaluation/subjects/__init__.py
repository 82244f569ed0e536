"""Subjects of an evaluation: policies, controls, and the fitted behavior policies."""
