"""Guard-rails: their form, normal form and status."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefrec_ray.guard_rails import GuardRail


@pytest.mark.parametrize(
    ("text", "rail", "normal"),
    [
        (
            "feedback.like >= -2 %",
            GuardRail("feedback", "like", "", at_least=True, limit=-0.02),
            "feedback.like >= -2 %",
        ),
        ("depth>=-5%", GuardRail("depth", "", "", at_least=True, limit=-0.05), "depth >= -5 %"),
        (
            "hours_to_return <= 2.5 %",
            GuardRail("hours_to_return", "", "", at_least=False, limit=0.025),
            "hours_to_return <= +2.5 %",
        ),
        (
            "exposure[ creator ] <= 10 %",
            GuardRail("exposure", "creator", "", at_least=False, limit=0.1),
            "exposure[creator] <= 10 %",
        ),
        (
            "share[category: local news] >= 5 %",
            GuardRail("share", "category", "local news", at_least=True, limit=0.05),
            "share[category: local news] >= 5 %",
        ),
    ],
)
def test_a_text_gives_a_guard_rail_and_its_normal_form(text: str, rail: GuardRail, normal: str) -> None:
    assert GuardRail.from_text(text) == rail
    assert str(rail) == normal
    assert GuardRail.from_text(normal) == rail


@pytest.mark.parametrize(
    "text",
    [
        "depth",
        "depth > 5 %",
        "depth >= 5",
        "likes >= -2 %",
        "exposure <= 10 %",
        "share[news] >= 5 %",
        "depth >= -100 %",
    ],
)
def test_another_form_or_an_impossible_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        GuardRail.from_text(text)


def test_a_share_cannot_have_a_negative_limit() -> None:
    with pytest.raises(ValueError, match=r"found a limit of -5%"):
        GuardRail.from_text("share[category: news] >= -5 %")


@given(st.floats(-1, 1), st.floats(0, 1), st.booleans())
def test_a_status_is_broken_only_if_the_whole_interval_is_harm(low: float, width: float, at_least: bool) -> None:
    rail = GuardRail("depth", "", "", at_least=at_least, limit=-0.05)
    status = rail.status(low, low + width)
    harm = [value < 0 if at_least else value > 0 for value in (low, low + width)]
    assert status == ("broken" if all(harm) else "open" if any(harm) else "kept")


def test_a_relative_limit_is_a_share_of_the_current_value() -> None:
    assert GuardRail.from_text("depth >= -5 %").factor(20.0) == pytest.approx(0.95)
    assert GuardRail.from_text("feedback.score >= -5 %").factor(-20.0) == pytest.approx(1.05)
    assert GuardRail.from_text("feedback.score <= 5 %").factor(-20.0) == pytest.approx(0.95)
