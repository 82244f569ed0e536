"""The same networks with more variety, which keeps a policy nearer to what the log has seen."""

from __future__ import annotations

from dataclasses import replace

from prefrec_ray import storage
from prefrec_ray.policy import Policy

#: Where a log says that people do not tire, its variety is some 1; where they do, some 8 (docs/results/recipe.md).
VARIETIES = (3.0, 6.0, 12.0)


def vary(bundle: str, folder: str) -> list[str]:
    """The bundle's policy at each of `VARIETIES` above its own, in folders of that name; none if it does not sample.

    What is there already stays.
    """
    policy, varied = Policy.load(bundle), []
    if policy.serving.rule == "sample":
        own = float(policy.serving.variety)  # a policy's is a number
        for variety in VARIETIES:
            if variety > own:
                serving = policy.serving.model_copy(update={"variety": variety})
                varied.append(storage.join(folder, f"{variety:g}"))
                if not storage.exists(varied[-1]):
                    replace(policy, serving=serving).save(varied[-1])
    return varied
