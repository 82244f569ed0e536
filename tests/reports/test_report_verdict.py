import pytest

from prefrec_ray.reports.verdict import gain_interval, verdict


def line(subject: str, role: str, value: float, low: float, high: float, estimator: str = "ncis") -> dict:
    """A record with behaviour 1.0 and the interval [low, high]."""
    return {
        "subject": subject,
        "role": role,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "behaviour": 1.0,
        "estimator": estimator,
    }


@pytest.mark.parametrize(
    ("low", "high", "text", "tone"),
    [
        (0.5, 0.9, "below behaviour", "bad"),
        (0.9, 1.4, "not told apart from behaviour", "open"),
        (1.1, 1.4, "within what placebos score", "open"),
        (1.3, 1.6, "above behaviour and every placebo", "good"),
    ],
)
def test_ncis_is_held_against_the_best_placebo(low: float, high: float, text: str, tone: str) -> None:
    peers = [line("random items", "placebo", 1.2, 1.1, 1.3), line("constant action", "placebo", 0.9, 0.8, 1.0)]
    said = verdict(line("p", "policy", (low + high) / 2, low, high), peers)
    assert (said.text, said.tone) == (text, tone)


def test_ncis_says_how_much_of_a_gain_is_session_length() -> None:
    peers = [line("length only:p", "control", 1.3, 1.2, 1.4), line("length only:other", "control", 1.0, 1.0, 1.0)]
    assert verdict(line("p", "policy", 1.4, 1.3, 1.5), peers).text == "above behaviour (75% of it by session length)"


def test_ncis_that_survives_shuffling_the_states_is_no_clear_gain() -> None:
    policy = line("p", "policy", 1.5, 1.4, 1.6)
    said = verdict(policy, [line("shuffled:p", "placebo", 1.5, 1.4, 1.6)])
    assert (said.text, said.tone) == ("above behaviour; so are its own actions shuffled over states", "open")
    assert verdict(policy, [line("shuffled:p", "placebo", 1.1, 1.0, 1.2)]).tone == "good"
    assert verdict(policy, [line("shuffled:other", "placebo", 1.5, 1.4, 1.6)]).tone == "good"


def test_roll_outs_are_held_against_imitation() -> None:
    peers = [line("imitation", "control", 1.2, 1.1, 1.3, "online")]
    policy = line("p", "policy", 1.25, 1.1, 1.4, "online")
    assert verdict(policy, peers).text == "above behaviour, not above imitation"
    assert verdict({**policy, "ci_low": 1.21}, peers).tone == "good"
    assert verdict(policy, []).text == "above behaviour"


def test_the_paired_interval_of_the_gain_goes_first() -> None:
    record = line("p", "policy", 1.2, 0.9, 1.5)
    assert gain_interval(record) == pytest.approx((-0.1, 0.5))
    paired = {**record, "gain_ci_low": 0.1, "gain_ci_high": 0.3}
    assert gain_interval(paired) == (0.1, 0.3)
    assert verdict(paired, []).tone == "good"
