import pytest
from made_records import made_record

from prefrec_ray.evaluation.records import Record, Served
from prefrec_ray.reports.verdict import verdict


def line(subject: str, role: str, value: float, low: float, high: float, estimator: str = "ncis") -> Record:
    """A record with the logging policy at 1.0 and the interval [low, high]."""
    return made_record(subject, value, role, ci_low=low, ci_high=high, estimator=estimator)


@pytest.mark.parametrize(
    ("low", "high", "text", "tone"),
    [
        (0.5, 0.9, "below the logging policy", "bad"),
        (0.9, 1.4, "not told apart from the logging policy", "open"),
        (1.1, 1.4, "within what negative controls score", "open"),
        (1.3, 1.6, "above logging policy and every negative control", "good"),
    ],
)
def test_ncis_is_held_against_the_best_negative_control(low: float, high: float, text: str, tone: str) -> None:
    peers = [line("random items", "placebo", 1.2, 1.1, 1.3), line("constant action", "placebo", 0.9, 0.8, 1.0)]
    said = verdict(line("p", "policy", (low + high) / 2, low, high), peers)
    assert (said.text, said.tone) == (text, tone)


def test_ncis_says_how_much_of_a_gain_is_session_length() -> None:
    peers = [line("length only:p", "control", 1.3, 1.2, 1.4), line("length only:other", "control", 1.0, 1.0, 1.0)]
    said = verdict(line("p", "policy", 1.4, 1.3, 1.5), peers)
    assert said.text == "above the logging policy (75% of it by session length)"


def test_ncis_that_survives_shuffling_the_states_is_no_clear_gain() -> None:
    policy = line("p", "policy", 1.5, 1.4, 1.6)
    said = verdict(policy, [line("shuffled:p", "placebo", 1.5, 1.4, 1.6)])
    assert (said.text, said.tone) == ("above the logging policy; so are its own actions shuffled over states", "open")
    assert verdict(policy, [line("shuffled:p", "placebo", 1.1, 1.0, 1.2)]).tone == "good"
    assert verdict(policy, [line("shuffled:other", "placebo", 1.5, 1.4, 1.6)]).tone == "good"


def test_roll_outs_are_held_against_behavior_cloning() -> None:
    peers = [line("imitation", "control", 1.2, 1.1, 1.3, "online")]
    policy = line("p", "policy", 1.25, 1.1, 1.4, "online")
    assert verdict(policy, peers).text == "above the logging policy, not above behavior cloning"
    assert verdict(line("p", "policy", 1.25, 1.21, 1.4, "online"), peers).tone == "good"
    assert verdict(policy, []).text == "above the logging policy"


def served(shares: list[float], distinct: int) -> Served:
    top = [{"item_id": i, "share": share} for i, share in enumerate(shares)]
    return Served(requests=1000, distinct_items=distinct, top_items=top)


def test_a_policy_that_serves_everybody_the_same_few_items_is_never_good() -> None:
    peers = [line("imitation", "control", 1.0, 0.9, 1.1, "online")]
    policy = line("p", "policy", 2.0, 1.9, 2.1, "online")
    logged = served([0.002] * 20, 1000)
    said = verdict(policy, peers, {"p": served([0.4, 0.3, 0.2, 0.05, 0.05], 5), "behaviour": logged})
    assert said.tone == "open"
    assert said.text == (
        "above logging policy and behavior cloning, but 5 items take 100% of requests (the logging policy's: 2%)"
    )
    spread = {"p": served([0.05] * 20, 20), "behaviour": logged}
    assert verdict(policy, peers, spread).tone == "good"
    # A log that is as concentrated says nothing against the policy.
    assert verdict(policy, peers, {"p": served([0.5, 0.5], 2), "behaviour": served([0.6, 0.4], 2)}).tone == "good"
    assert verdict(policy, peers, {"p": served([0.5, 0.5], 2)}).text.endswith("but 2 items take 100% of requests")
    below = line("p", "policy", 0.5, 0.4, 0.6, "online")
    assert verdict(below, peers, {"p": served([1.0], 1), "behaviour": logged}).tone == "bad"


def test_the_paired_interval_of_the_gain_goes_first() -> None:
    record = line("p", "policy", 1.2, 0.9, 1.5)
    assert record.gain_interval == pytest.approx((-0.1, 0.5))
    paired = made_record("p", 1.2, ci_low=0.9, ci_high=1.5, gain_ci_low=0.1, gain_ci_high=0.3)
    assert paired.gain_interval == (0.1, 0.3)
    assert verdict(paired, []).tone == "good"
