"""python night_of_a_candidate.py CONFIG: `prefrec nightly CONFIG`, with the verdict `candidate` for every policy.

The smallest platform cannot support a verdict, and a kill of a promotion needs a policy to promote.
"""

import sys
from typing import Any

from prefrec_ray.cli.main import run
from prefrec_ray.nightly import run as nights
from prefrec_ray.nightly.folder import Night

judged = nights._judged


def candidate(*found: Any) -> Night:
    return judged(*found).model_copy(update={"verdict": "candidate"})


nights._judged = candidate
sys.exit(run(["nightly", sys.argv[1]]))
