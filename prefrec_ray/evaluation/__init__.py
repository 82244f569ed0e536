"""What a policy is worth by logged sessions: NCIS, fitted-Q and doubly robust, beside placebos and controls."""

from prefrec_ray.evaluation.fqe import FqeSettings
from prefrec_ray.evaluation.ncis import NcisSettings
from prefrec_ray.evaluation.records import evaluate, write_evaluation
from prefrec_ray.evaluation.settings import EvaluateSettings

__all__ = ["EvaluateSettings", "FqeSettings", "NcisSettings", "evaluate", "write_evaluation"]
