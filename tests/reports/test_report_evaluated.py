"""Joint conclusions from the records of one task and estimator: clear differences, bias."""

import pytest
from made_records import made_record

from prefrec_ray.evaluation.results.records import Record, placebo_bias
from prefrec_ray.reports.evaluated import calibration, separation


def line(subject: str, value: float, role: str = "policy", **changes: object) -> Record:
    return made_record(subject, value, role, half=0.2, **changes)


def behind(subject: str, value: float, low: float, high: float, **changes: object) -> Record:
    return line(subject, value, best="a", behind_ci_low=low, behind_ci_high=high, **changes)


def test_policies_whose_difference_crosses_zero_are_named() -> None:
    records = [line("a", 2.0), behind("b", 1.9, -0.05, 0.25), behind("c", 1.0, 0.8, 1.2), behind("d", 1.95, -0.1, 0.2)]
    assert separation(records) == (
        "a scores highest, but the data cannot separate it from d (-0.10 to +0.20) and b (-0.05 to +0.25): "
        "the 95 % interval of the difference, user by user, contains 0."
    )


def test_where_all_others_are_apart_it_says_so() -> None:
    assert separation([line("a", 2.0), behind("b", 1.0, 0.1, 1.9)]) == (
        "a scores highest, and the interval of its lead over every other policy is above 0."
    )
    fitted = behind("b", 1.0, 0.1, 1.9, estimator="fqe")
    assert separation([line("a", 2.0), fitted]).endswith(
        "does not contain the network's own error: ignore a small lead."
    )
    several = behind("b", 1.0, 0.1, 1.9, estimator="fqe", settings={"networks": 3})
    assert separation([line("a", 2.0), several]).endswith("above 0.")
    assert separation([behind("b", 1.0, 0.1, 1.9)]) == ""
    assert separation([line("a", 2.0), line("imitation", 1.0, "control")]) == ""


def test_bias_is_in_half_widths_of_the_placebos_own_interval() -> None:
    records = [line("constant action", 1.1, "placebo"), line("random items", 0.7, "placebo"), line("a", 5.0)]
    records.append(line("shuffled:a", 3.0, "placebo"))
    assert placebo_bias(records) == pytest.approx({"constant action": 0.5, "random items": -1.5})
    assert calibration(records) == (
        "Negative controls against the logging policy's value, in half-widths of their intervals: constant action +0.5 "
        "and random items -1.5; at most 1.5. Gains of this size may be bias."
    )
    near = calibration(records[:1])
    assert "no bias" not in near
    assert near.endswith("this does not show that the values of policies are accurate.")
    assert calibration([line("a", 5.0)]) == ""
