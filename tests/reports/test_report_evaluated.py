"""Joint conclusions in the table of one task and estimator: leads of the best policy, bias of controls."""

from made_records import made_record
from test_report_page import Page

from prefrec_ray.reports.page import _records


def cells(*records: object) -> list[list[str]]:
    """The last two cells of each row: the lead of the best policy, and the bias."""
    document = Page(str(_records(records)))
    width = len(document.texts["th"])
    texts = document.texts["td"]
    place = document.texts["th"].index("lead of the best")
    return [texts[row + place : row + place + 2] for row in range(0, len(texts), width)]


def test_a_row_has_its_distance_from_the_best_policy_or_from_the_logging_policy() -> None:
    behind = {"best": "a", "behind_ci_low": -0.05, "behind_ci_high": 0.25}
    records = [
        made_record("a", 2.0, half=0.2),
        made_record("b", 1.9, half=0.2, **behind),
        made_record("constant action", 1.1, "placebo", half=0.2),
        made_record("shuffled:a", 3.0, "placebo", half=0.2),
        made_record("random items", 0.7, "placebo", half=0.2),
    ]
    assert cells(*records) == [["–", "–"], ["[-0.05, 0.25]", "–"], ["–", "+0.5"], ["–", "–"], ["–", "-1.5"]]
    truth = [record.model_copy(update={"estimator": "online"}) for record in records]
    assert all(bias == "–" for _, bias in cells(*truth))
