"""What a policy is worth: NCIS on logged sessions, with intervals, placebos and controls beside every score."""

from prefrec_ray.evaluation.ncis import NcisSettings
from prefrec_ray.evaluation.records import evaluate, write_evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings

__all__ = ["EvaluateSettings", "NcisSettings", "evaluate", "write_evaluation"]
