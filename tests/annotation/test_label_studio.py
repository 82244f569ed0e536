"""Label Studio's files against its published schema, and there and back in every format that it exports.

`label_studio_config_schema.json` is the schema of labelling configs that Label Studio checks them by, as its Python
package publishes it (label-studio-sdk 2.1.2, Apache-2.0). Where that package is installed its own parser and its own
converters are used too.
"""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from people_answers import quiet, write_answers

from prefrec_ray.annotation import label_studio
from prefrec_ray.annotation.questions import read_pairs
from prefrec_ray.annotation.store import import_labels
from prefrec_ray.annotation.votes import read_votes
from prefrec_ray.dataset import PreparedDataset

SCHEMA = json.loads((Path(__file__).parent / "label_studio_config_schema.json").read_text("utf-8"))


def badgerfish(element: ElementTree.Element) -> dict[str, Any]:
    """XML as JSON by the convention BadgerFish, in which the schema is written."""
    node: dict[str, Any] = {f"@{name}": value for name, value in element.attrib.items()}
    for tag in dict.fromkeys(child.tag for child in element):
        several = [badgerfish(child) for child in element.iterfind(tag)]
        node[tag] = several if len(several) > 1 else several[0]
    return node


def errors(config: str) -> list[str]:
    root = ElementTree.fromstring(config)
    names = [tag.get("name") for tag in root.iter() if tag.get("name")]
    messages = [error.message for error in jsonschema.Draft6Validator(SCHEMA).iter_errors({root.tag: badgerfish(root)})]
    messages += [f"{name} twice" for name in set(names) if names.count(name) > 1]
    return messages + [f"no {tag.get('toName')}" for tag in root.iter("Choices") if tag.get("toName") not in names]


@pytest.fixture(scope="module")
def tasks(question_folder: Path) -> list[dict[str, Any]]:
    return json.loads((question_folder / "label_studio.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def answers(question_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    write_answers(question_folder, file)
    return file


def test_the_config_is_of_the_published_schema(question_folder: Path) -> None:
    assert errors((question_folder / "label_studio.xml").read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('<HyperText name="first"', "<HyperText"),
        ('value="$second"', ""),
        ('<Choices name="label"', "<Choices"),
        ('toName="first"', 'toName="third"'),
        ('<HyperText name="second"', '<HyperText name="first"'),
        ('<Choice alias="tie" value="Equally good"', '<Choice alias="tie"'),
    ],
)
def test_a_config_of_another_schema_is_noticed(good: str, bad: str) -> None:
    assert good in label_studio.CONFIG
    assert errors(label_studio.CONFIG.replace(good, bad)) != []


def annotated(tasks: list[dict[str, Any]], answers: Path) -> list[dict[str, Any]]:
    """Return Label Studio's JSON export of `answers` to `tasks`; a skip is a choice or the button."""
    people = {"anna": 1, "bo": 2, "cy": 3}
    exported = []
    lines = [json.loads(line) for line in answers.read_text("utf-8").splitlines()]
    number = 0
    for task_id, task in enumerate(tasks, 1):
        annotations = []
        for answer in (a for a in lines if a["pair_id"] == task["data"]["pair_id"]):
            number += 1
            pressed_skip = answer["label"] == "skip" and number % 2 == 0
            result = {"id": f"r{number}", "from_name": "label", "to_name": "first", "type": "choices"}
            result |= {"origin": "manual", "value": {"choices": [answer["label"]]}}
            about = {"id": number, "completed_by": people[answer["annotator"]], "was_cancelled": pressed_skip}
            about |= {"created_at": "2026-01-05T10:00:00Z", "updated_at": "2026-01-05T10:00:09Z", "lead_time": 9.5}
            annotations.append({**about, "task": task_id, "result": [] if pressed_skip else [result]})
        exported.append({"id": task_id, "data": task["data"], "annotations": annotations, "meta": {}, "project": 1})
    return exported


def test_there_and_back_nothing_is_lost(
    question_folder: Path, dataset: PreparedDataset, tasks: list[dict[str, Any]], answers: Path, tmp_path: Path
) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps(annotated(tasks, answers)), "utf-8")
    # The questions come back whole with the answers ...
    data = [task["data"] for task in json.loads(file.read_text("utf-8"))]
    pairs = read_pairs(str(question_folder)).to_pylist()
    assert [{name: task[name] for name in pairs[0]} for task in data] == pairs
    # ... and the answers agree, with names for numbers.
    numbers = {"anna": "1", "bo": "2", "cy": "3"}
    plain = tmp_path / "plain.jsonl"
    rows = [json.loads(line) for line in answers.read_text("utf-8").splitlines()]
    plain.write_text("".join(json.dumps({**r, "annotator": numbers[r["annotator"]]}) + "\n" for r in rows))
    summaries = [
        import_labels(str(f), str(question_folder), dataset.uri, "studio", "mean", True, quiet)
        | {"files": kept(dataset)}
        for f in (file, plain)
    ]
    assert summaries[0] == summaries[1]


def kept(dataset: PreparedDataset) -> dict[str, bytes]:
    return {part: Path(dataset.people_path("studio", part)).read_bytes() for part in ("train", "validation", "votes")}


def test_its_own_parser_and_converters(
    question_folder: Path, tasks: list[dict[str, Any]], answers: Path, tmp_path: Path
) -> None:
    """The parser of the package, if it is installed (`pip install label-studio-sdk`)."""
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    converter = pytest.importorskip("label_studio_sdk.converter")
    config = (question_folder / "label_studio.xml").read_text("utf-8")
    parsed = interface.LabelInterface(config)
    parsed.validate()
    exported = annotated(tasks, answers)
    for task in exported:
        assert parsed.validate_task({"data": task["data"]})
        assert all(parsed.validate_annotation(annotation) for annotation in task["annotations"])
    (tmp_path / "export.json").write_text(json.dumps(exported), "utf-8")
    own = converter.Converter(config, project_dir=str(tmp_path))
    own.convert_to_json_min(str(tmp_path / "export.json"), str(tmp_path / "min"), is_dir=False)
    own.convert_to_csv(str(tmp_path / "export.json"), str(tmp_path / "csv"), is_dir=False, sep=",", header=True)
    known = {task["data"]["pair_id"] for task in tasks}

    def votes(file: str) -> list[dict[str, Any]]:
        rows = read_votes(str(tmp_path / file), known).to_pylist()
        return sorted((row for row in rows if row["label"] is not None), key=lambda r: (r["pair_id"], r["annotator"]))

    with (tmp_path / "csv" / "result.csv").open(newline="", encoding="utf-8") as stream:
        assert {"pair_id", "annotator", "label"} <= set(next(csv.reader(stream)))
    # These two formats leave out who pressed the button `Skip`.
    assert votes("export.json") == votes("min/result.json") == votes("csv/result.csv")
