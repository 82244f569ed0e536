"""The site is built without a warning; in a browser no page breaks a rule of accessibility, runs out of the window, or
asks the network for anything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from threaded import in_thread

ROOT = Path(__file__).parents[1]
WIDTHS = (1280, 420)
#: Debian's chromium, and `pip install playwright axe-playwright-python`.
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(build, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_what_is_made_from_code_is_there(site: Path) -> None:
    assert "prefrec import-labels" in (site / "commands.html").read_text("utf-8")
    assert "PreparedDataset.open" in (site / "api.html").read_text("utf-8")
    assert "Measured at commit" in (site / "results" / "truth.html").read_text("utf-8")
    assert (site / "source" / "cluster" / "aws.yaml").is_file()


@pytest.mark.parametrize(
    "words",
    [
        *("timestamps in milliseconds", "in stock", "what does inconclusive mean", "duplicate rows", "openapi"),
        *("decimal comma", "how much memory", "resume after a crash", "own reward", "delete a user"),
    ],
)
def test_the_search_finds_questions_in_the_words_of_users(site: Path, words: str) -> None:
    """A heading of the page has all words, and counts more than a text."""
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    titles = [entry["title"].lower() for entry in index["docs"] if entry["location"].startswith("questions.html#")]
    assert any(words in title for title in titles)
    assert index["config"]["fields"]["title"]["boost"] > index["config"]["fields"]["text"]["boost"]


@pytest.mark.parametrize(
    ("words", "guides"),
    [
        ("retention", {"index", "evaluation", "glossary"}),
        ("churn", {"index", "evaluation", "glossary"}),
        ("A/B test", {"evaluation", "deploy", "nightly"}),
        ("install", {"index", "quickstart", "cli", "cluster"}),
        ("cold start", {"data", "deploy"}),
        ("GPU", {"training", "cluster"}),
        ("slate", {"serving", "deploy", "glossary"}),
        ("privacy", {"data", "deploy", "privacy"}),
        ("GDPR", {"privacy"}),
        ("delete a user", {"privacy"}),
        ("cost", {"training", "cluster"}),
        ("how much data", {"data"}),
        ("hyperparameter", {"tuning"}),
        ("monitoring", {"deploy"}),
        ("latency", {"deploy"}),
        ("real time", {"deploy"}),
        ("custom model", {"add_a_method"}),
        ("alternatives", {"comparison"}),
        ("leaderboard", {"bench"}),
        ("resume", {"training"}),
        ("license", {"index"}),
    ],
)
def test_the_search_finds_guides_first(site: Path, words: str, guides: set[str]) -> None:
    """Tags weigh a million times as much as text: pages with the tag are the first ones, then the boost decides."""
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    assert index["config"]["fields"]["tags"]["boost"] > index["config"]["fields"]["title"]["boost"]
    entries = {entry["location"]: entry for entry in index["docs"] if "#" not in entry["location"]}
    found = {location.removesuffix(".html") for location, entry in entries.items() if words in entry.get("tags", ())}
    assert found == guides
    results = [entry["boost"] for location, entry in entries.items() if location.startswith("results/")]
    assert len(results) > 10
    assert max(results) < min(entries[f"{guide}.html"]["boost"] for guide in guides)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(site))
    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page(site: Path, served: str, browser: Any, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    problems = []
    pages = sorted(path for path in site.glob("**/*.html") if "source" not in path.parts)
    assert len(pages) > 40
    for path in pages:
        page.goto(f"{served}/{path.relative_to(site)}")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            problems.append(f"{path.name}: wider than {width} pixels")
        for violation in axe.run(page).response["violations"]:
            where = violation["nodes"][0]["target"]
            problems.append(f"{path.name}: {violation['id']} ({len(violation['nodes'])}): {where}")
    assert not problems, "\n".join(problems)
    assert [url for url in requests if not url.startswith((served, "data:", "blob:"))] == []
