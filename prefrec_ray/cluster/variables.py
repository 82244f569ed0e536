"""Environment variables of a job: harmless ones are passed on, secrets and doubtful ones are refused.

Ray puts a job's variables on a process's command line, into logs that every user of the node can read, and into the
list of jobs. A variable therefore passes only if neither its name nor its value looks like a secret, and if its name
is a known one or its value is plain: a number, a short word, a path or a URI.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from prefrec_ray.errors import UserError

#: Ends of words in the name of a secret (PGPASSWORD, DB_PASS_2, APIKEY), and whole words.
_ENDS = r"(PASS|PASSWD|PASSWORD|PASSCODE|PASSPHRASE|PWD|SECRET|TOKEN|KEY|CREDENTIAL|CRED|COOKIE|WEBHOOK)S?"
_WORDS = r"(PW|PAT|PIN|OTP|JWT|SAS|PEM|PFX|DSN|SALT|BEARER|SIGNATURE|KEYTAB|PRIVATE)"
_SECRET_NAME = re.compile(rf"{_ENDS}\d*(_|$)|(^|_){_WORDS}\d*(_|$)|(^|_)AUTH$")
#: Ends of the names of variables for files with secrets: harmless if their value is a path.
_FILE_NAME = re.compile(r"_(FILE|PATH|DIR|APPLICATION_CREDENTIALS)$")
_PATH = re.compile(r"(/|~/|\./)[\w./@~-]*(:(/|~/|\./)[\w./@~-]*)*:?", re.ASCII)

#: Names of harmless variables; a name that ends in an underscore is a prefix.
_KNOWN = (
    *("OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "NUMEXPR_", "MALLOC_", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_"),
    *("TORCH_", "PYTORCH_", "TOKENIZERS_", "RAY_", "PREFREC_", "LC_", "LANG", "TZ", "NO_PROXY"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("WANDB_PROJECT", "WANDB_ENTITY", "MLFLOW_EXPERIMENT_NAME", "GOOGLE_CLOUD_PROJECT"),
)
#: Values without secrets under any other name: a number, a word, paths, a URI, without a long run of letters and
#: digits.
_PLAIN = re.compile(
    r"(?!.*(?<![A-Za-z\d])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z\d]{20})"
    rf"(|[-+]?\d*\.?\d*(e-?\d+)?|[A-Za-z]{{1,15}}|{_PATH.pattern}|[a-z\d]+://[\w./:@%~-]*)",
    re.ASCII,
)

#: A password in a URL or in a connection string, a signed URL, a header.
_PASSWORD = re.compile(
    r"://[^/@\s]*:[^/\s]+@|://[^/@\s]{16,}@"
    r"|(pass(word|wd|phrase)?|pwd|secret|token|(api|access|account|shared|private)[_-]?\w*key|sig|signature|credential)"
    r"""["']?\s*[=:]\s*["']?[^\s;&"']"""
    r"|\b(bearer|basic)\s+\S",
    re.IGNORECASE,
)


def variables(names: Sequence[str]) -> dict[str, str]:
    """Return the variables `names` as they are set here. Raises `UserError` for one that is not set or not harmless."""
    return {name: _harmless(name) for name in names}


def _harmless(name: str) -> str:
    """Return the value of a variable that may be passed on. The `UserError` of another one does not show its value."""
    if "=" in name:
        raise UserError(f"--env {name.partition('=')[0]}: found a value; expected only the name of a variable set here")
    value = os.environ.get(name)
    if value is None:
        raise UserError(f"--env {name}: not set here; expected the name of an environment variable")
    if reason := _secret(name, value):
        raise UserError(
            f"--env {name}: looks like a secret ({reason}), and the variables of a job are shown in its logs and in the"
            " list of jobs; give the nodes themselves the right (instance profile, service account, workload"
            " identity), a file that only they can read, or a secret of Kubernetes or Docker (docs/cluster.md)"
        )
    if not _known(name.upper()) and _PLAIN.fullmatch(value) is None:
        raise UserError(
            f"--env {name}: found a value that may hold a secret, under a name that is not known to be harmless;"
            " expected a number, a word of at most 15 letters, a path or a URI; set any other value on the nodes"
            " themselves (docs/cluster.md)"
        )
    return value


def _known(name: str) -> bool:
    return name in _KNOWN or name.startswith(tuple(known for known in _KNOWN if known.endswith("_")))


def _secret(name: str, value: str) -> str | None:
    """Return the reason why a variable looks like a secret, in a few words; None otherwise."""
    names_file = _FILE_NAME.search(name.upper()) and _PATH.fullmatch(value)
    if not names_file and _SECRET_NAME.search(name.upper()):
        return "by its name"
    if _PASSWORD.search(value):
        return "its value holds a password"
    kinds = (detector.secret_type for detector in _detectors() if any(detector.analyze_string(value)))
    return next((f"its value holds: {kind}" for kind in kinds), None)


@cache
def _detectors() -> list[Any]:
    """Return the patterns of detect-secrets for private keys and for the tokens of about twenty services."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class  # a tenth of a second
    from detect_secrets.plugins.base import RegexBasedDetector
    from detect_secrets.plugins.ip_public import IPPublicDetector

    kinds: Any = get_mapping_from_secret_type_to_class().values()
    return [kind() for kind in kinds if issubclass(kind, RegexBasedDetector) and kind is not IPPublicDetector]
