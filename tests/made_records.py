"""Records of an evaluation, made by hand."""

from prefrec_ray.evaluation.results.records import Record


def made_record(subject: str, value: float, role: str = "policy", half: float = 0.1, **changes: object) -> Record:
    """A record of NCIS on depth with the logging policy at 1.0 and the interval value +- `half`."""
    fields = {
        "method": "PrefRec",
        "task": "depth",
        "estimator": "ncis",
        "subject": subject,
        "role": role,
        "value": value,
        "ci_low": value - half,
        "ci_high": value + half,
        "behaviour": 1.0,
        "users": 300,
        "sessions": 4000,
        "settings": {},
    }
    fields |= changes
    bounds = {f"gain_{bound}": fields[bound] - fields["behaviour"] for bound in ("ci_low", "ci_high")}
    return Record.model_validate({"reaches_end": not 0 < fields["ci_low"] <= fields["ci_high"] < 5, **bounds, **fields})
