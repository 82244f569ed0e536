"""evaluation.json is read and written in one place, and any error in it is reported in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_records import made_record

from prefrec_ray.errors import UserError
from prefrec_ray.evaluation.results.names import subject_of, subject_title
from prefrec_ray.evaluation.results.records import Evaluation, ServedItems, read_evaluation, write_evaluation
from prefrec_ray.evaluation.results.verdict import verdicts
from prefrec_ray.reports.first import first_screen

#: A record with only the required fields.
RECORD = {
    **{"method": "IQL", "task": "depth", "estimator": "ncis", "subject": "shuffled:imitation", "role": "placebo"},
    **{"value": 1, "ci_low": 0.5, "ci_high": 1.5, "behaviour": 0.9, "ess": 0.8, "users": 3, "sessions": 9},
    **{"gain_ci_low": -0.4, "gain_ci_high": 0.6},
    "settings": {"sigma": 2.0},
}
SERVED = {"p": {"requests": 8, "distinct_items": 2, "top_items": [{"item_id": "a", "share": 0.75}]}}
FILE = {"schema_version": 1, "dataset": "d", "split": "test", "records": [RECORD], "served": SERVED}


def with_records(*records: Any) -> dict[str, Any]:
    return {**FILE, "records": list(records)}


def written(folder: Path, content: Any) -> str:
    file = folder / "evaluation.json"
    file.write_text(json.dumps(content))
    return str(file)


def test_a_file_is_read(tmp_path: Path) -> None:
    evaluation = read_evaluation(written(tmp_path, FILE))
    (record,) = evaluation.select("depth", "ncis")
    assert (record.title, record.kind, record.policy) == (
        "behavior cloning, actions shuffled",
        "negative control",
        "imitation",
    )
    assert record.gain_interval == pytest.approx((-0.4, 0.6))
    assert record.gain == pytest.approx(0.1)
    assert evaluation.tasks == ["depth"]
    assert evaluation.served["p"].share_of(5) == 0.75


def test_what_is_written_has_the_keys_that_were_set(tmp_path: Path) -> None:
    file = str(tmp_path / "evaluation.json")
    records = (made_record("a", 1.5, ess=None), made_record("b", 1.0, best="a", behind_ci_low=0.1, behind_ci_high=0.9))
    served = {"a": ServedItems.model_validate(SERVED["p"])}
    evaluation = Evaluation(dataset="d", split="test", records=records, served=served)
    write_evaluation(file, evaluation)
    content = json.loads(Path(file).read_text())
    assert set(content) == {"schema_version", "dataset", "split", "records", "served"}
    first, second = content["records"]
    assert first["ess"] is None
    assert set(second) - set(first) == {"best", "behind_ci_low", "behind_ci_high"}
    assert "ess" not in second
    assert "bundle" not in first
    assert content["served"] == {"a": SERVED["p"]}
    assert read_evaluation(file) == evaluation


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "key '(top)': expected a mapping, found []"),
        ({}, "key 'records' is missing"),
        ({**FILE, "schema_version": 2}, "key 'schema_version': expected 1, found 2"),
        ({**FILE, "records": {"a": 1}}, "key 'records': expected a list, found"),
        (with_records(RECORD, 7), "key 'records.1': expected a mapping, found 7"),
        (with_records({**RECORD, "value": "much"}), "key 'records.0.value': expected a number, found 'much'"),
        (
            {**FILE, "records": [{**RECORD, "value": float("nan")}]},
            "key 'records.0.value': expected a finite number, found nan",
        ),
        (with_records({**RECORD, "value": 1e300}), "key 'records.0.value': expected less than or equal to 5"),
        ({**FILE, "served": {"p": {**SERVED["p"], "ceiling": 0}}}, "key 'served.p.ceiling': expected greater than 0"),
        (with_records({**RECORD, "role": "king"}), "key 'records.0.role': expected 'policy', "),
        (
            {**FILE, "records": [{**RECORD, "ci_loww": 1}]},
            "key 'records.0.ci_loww': unknown key; did you mean 'ci_low'?",
        ),
        (with_records({k: v for k, v in RECORD.items() if k != "users"}), "key 'records.0.users' is missing"),
        (with_records({**RECORD, "settings": []}), "key 'records.0.settings': expected a mapping"),
        ({**FILE, "served": {"p": {"requests": 8}}}, "key 'served.p.distinct_items' is missing"),
        ({**FILE, "served": ["p"]}, "key 'served': expected a mapping"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        read_evaluation(written(tmp_path, content))
    line = str(raised.value)
    assert line.startswith(f"{tmp_path}/evaluation.json: {message}")
    assert line.endswith("; expected a file written by `prefrec evaluate`")
    assert "\n" not in repr(raised.value.args[0])[1:-1]


def test_settings_and_inputs_of_another_kind_count_as_missing(tmp_path: Path) -> None:
    odd = {"logged_level": "x", "relative_error": 10**400, "specification_error": None}
    about = {"estimator": "model", "settings": odd, "provenance": {"averaged": 3}}
    tests = [{"model": "means", "r2": 0.1, "largest_control": 0.01, "feature": "hour"}]
    file = written(tmp_path, {**with_records({**RECORD, **about, "role": "policy"}), "specification": tests})
    read = read_evaluation(file)
    assert read.records[0].number("logged_level", 7.0) == 7.0
    assert "up to 0.00 levels" in verdicts(read)["shuffled:imitation"].reasons[-1]
    assert first_screen(read, [])


def test_subjects_have_names_for_readers() -> None:
    assert subject_title("behaviour") == "logging policy"
    assert subject_title("length only:PrefRec robust") == "PrefRec robust, session length only"
    assert subject_title("random items") == "random items"
    assert subject_of("shuffled:length") == "length"
    assert subject_of("length only:a b") == "a b"
