"""Terms of a report, each explained in one or two sentences."""

from __future__ import annotations

from prefrec_ray.evaluation.results.verdict import VERDICTS
from prefrec_ray.reports.levels import LEVEL

#: Titles and explanations of the five checks of a verdict (`records.Light`).
CHECKS = {
    "value": (
        "Gain",
        "Mean level under this policy minus mean level under the logging policy, with the 95 % interval. Green if the "
        "whole interval is above 0, red if it is below 0.",
    ),
    "support": (
        "Support",
        "A state is what is known of a user before an item is shown. Support is the share of the states on this "
        "policy's way that look like states in the log. Nothing in the log shows how users react in other states. The "
        "effective sample is the number of logged sessions, as a share, that count if each is weighted by how likely "
        "this policy would have shown the same items.",
    ),
    "catalogue": (
        "Items shown",
        "Number of different items, and the share of requests that goes to the ten most frequent ones. If all users "
        "get the same few items, no log shows what this does to them over hours.",
    ),
    "controls": (
        "Controls",
        "A control is scored like the policies. A negative control ignores the user, for example random items or "
        "always the same item. The number is the largest gain of a negative control. A gain counts if it is larger.",
    ),
    "convergence": (
        "Convergence",
        "An estimate is used only if it settles. The interval of the level must lie inside the range of a level, "
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
#: Verdicts for readers, with their meaning.
LEGEND = (
    (VERDICTS["candidate"], "the gain is above 0 and above every negative control, and the log supports the estimate"),
    (VERDICTS["no_difference"], "the interval of the gain contains 0, or a negative control gains as much"),
    (VERDICTS["cannot_say"], "the estimate is not reliable enough; do not decide on it"),
    (VERDICTS["do_not_ship"], "the whole interval of the gain is below 0"),
    ("✓ ! ✕ –", "a check that passes, needs care, fails, has no data"),
)
