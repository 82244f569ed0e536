"""Terms of a report, each explained in one or two sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefrec_ray.evaluation.results.verdict import VERDICTS

#: Explanation of levels.
LEVEL = (
    "A level (Eq. 11) compares a session with the average of its own user in the log: a ratio, rounded down, from 0 to "
    "5. Frequency: the user's average time away over the time until the next session, so 2 is back in half the usual "
    "time and 4 in a quarter. Depth: the items of the session over the user's average. Mixture: a weighted mean of "
    "both. Higher is more engaged. The average level is not always 1: one short time away counts up to 5, a long one 0."
)
#: Titles and explanations of the five checks of a verdict (`records.Light`).
CHECKS = {
    "value": (
        "Gain",
        "Mean level under this policy minus mean level under the logging policy, with the 95 % interval. Green if the "
        "whole interval is above 0, red if it is below 0.",
    ),
    "support": (
        "Support",
        "A state describes a user before an impression. Support is the share of the states under this "
        "policy that are similar to states in the log. In other states the reaction is extrapolated. Models of "
        "users of different kinds disagree if the log does not determine it: their smallest and largest gain follow. "
        "The effective sample is the effective share of the logged sessions if each is weighted by the probability "
        "that this policy shows the same items.",
    ),
    "catalogue": (
        "Items shown",
        "Number of different items, and the share of impressions of the ten most frequent ones. If all users "
        "get the same few items, the log does not show the effect over hours.",
    ),
    "controls": (
        "Controls",
        "A control is scored like the policies. A negative control ignores the user, for example random items or "
        "always the same item. The number is the largest gain of a negative control. A gain counts if it is larger.",
    ),
    "convergence": (
        "Convergence",
        "An estimate is used only if it converges. The interval of the level must be inside the range of a level, "
        "0 to 5.",
    ),
}
LEVEL_TERM = ("What is a level?", LEVEL)
POLICY_TERM = (
    "What is a policy?",
    "A policy is a rule that chooses the items to show. The logging policy is the rule that chose the items in the "
    "log. The name of a policy contains the training method, the recipe (a set of training settings) and the serving "
    "rule: sample draws items at random, better ones more often; best always shows the items with the highest scores.",
)
INTERVAL_TERM = (
    "What is a 95 % interval?",
    "The range of values that fit the data: of 100 such intervals, about 95 contain the true value. It contains the "
    "differences between users, between the fitted models, and an allowance for the error of these models.",
)
#: Titles and meanings of the verdicts.
LEGEND = (
    (VERDICTS["candidate"], "the gain is above 0 and above every negative control, and the log supports the estimate"),
    (VERDICTS["no_difference"], "the interval of the gain contains 0, or a negative control gains as much"),
    (VERDICTS["inconclusive"], "the estimate is not reliable enough; do not decide on it"),
    (
        VERDICTS["do_not_ship"],
        "the whole interval of the gain over the logging policy or the current policy is below 0, or a guard-rail is "
        "broken",
    ),
    ("✓ ! ✕ –", "a check that passes, needs care, fails, has no data"),
)


def serving_rule(provenance: Mapping[str, Any]) -> str:
    """Return the serving rule of a policy in words; temperature and penalties only if it draws its items."""
    window = ("repetition_window",) if provenance.get("repetition") else ()
    drawn = ("temperature", "variety", "repetition", *window)
    keys = ("rule", "scores", *(drawn if provenance.get("rule") == "sample" else ()))
    known = {key: provenance[key] for key in keys if provenance.get(key) is not None}
    return ", ".join(
        f"{key.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
        for key, value in known.items()
    )
