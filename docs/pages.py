"""Hooks of MkDocs that make the site from the pages of the repository (mkdocs.yml names this file).

The home page is README.md. A link to a file outside docs/ leads to a copy of it in the site, so that nothing needs a
network; the pages of commands and settings, the tree of packages and the rules of verdicts are made from the code.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from posixpath import relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.results import measured  # noqa: E402
from prefrec_ray.evaluation.results.rules import table  # noqa: E402

DOCS = ROOT / "docs"
#: The target of a link or picture, without its anchor.
TARGET = re.compile(r"(?<=\]\()(?!\w+:|#)[^)\s#]+")
#: Lines of pages that stand for text made from the code.
COMMANDS, SETTINGS, TREE, VERDICTS = "[commands]: # ", "[settings]: # ", "[tree]: # ", "[verdicts]: # "
#: Weight in the search, by the first heading of the navigation: guides come before results.
BOOST = {"Get started": 3.0, "Tutorials": 3.0, "How-to": 3.0, "Reference": 1.5, "Results": 0.3}
#: Search words that the page itself does not contain, by guide.
KEYWORDS = {
    "index.md": ("retention", "churn", "engagement", "install", "pip", "license"),
    "quickstart.md": ("install", "getting started", "demo"),
    "cli.md": ("install", "extras", "pip"),
    "own_csv.md": ("MovieLens", "import"),
    "data.md": ("cold start", "privacy", "schema", "how much data", "negative feedback", "embeddings"),
    "privacy.md": ("privacy", "GDPR", "personal data", "erasure", "delete a user"),
    "evaluation.md": ("retention", "churn", "A/B test", "off-policy", "uplift", "experiment"),
    "serving.md": ("slate", "ranking", "top-k", "exploration", "diversity"),
    "deploy.md": (
        *("A/B test", "canary", "slate", "privacy", "production", "REST", "API", "cold start"),
        *("latency", "monitoring", "real time"),
    ),
    "training.md": ("GPU", "CUDA", "mixed precision", "cost", "scaling", "resume"),
    "tuning.md": ("hyperparameter", "grid search", "Optuna"),
    "add_a_method.md": ("custom model", "extension"),
    "comparison.md": ("alternatives", "d3rlpy", "RecSim"),
    "bench.md": ("leaderboard", "benchmark"),
    "cluster.md": ("GPU", "Kubernetes", "AWS", "install", "capacity", "cost"),
    "nightly.md": ("retraining", "schedule", "A/B test"),
    "label.md": ("annotation", "RLHF"),
    "glossary.md": ("retention", "churn", "slate", "session", "definition"),
}


def place(path: Path) -> str:
    """Return the location in the site of a file of the repository."""
    if path == ROOT / "README.md":
        return "index.md"
    inside = path.relative_to(ROOT)
    return str(inside.relative_to("docs") if path.is_relative_to(DOCS) else PurePosixPath("source") / inside)


def origin(uri: str) -> Path:
    """Return the file of the repository at `uri` in the site."""
    if uri == "index.md":
        return ROOT / "README.md"
    return ROOT / uri.removeprefix("source/") if uri.startswith("source/") else DOCS / uri


def linked(path: Path) -> set[Path]:
    """Return the files outside docs/ that a page links to."""
    targets = {(path.parent / target).resolve() for target in TARGET.findall(path.read_text("utf-8"))}
    return {target for target in targets if target.is_file() and not target.is_relative_to(DOCS)}


def on_files(files: Files, config: Any) -> Files:
    """Add the home page and the files that pages link to."""
    pages = [*DOCS.glob("**/*.md"), ROOT / "README.md"]
    wanted = {ROOT / "README.md"}
    while pages:
        new = linked(pages.pop()) - wanted
        wanted |= new
        pages += [path for path in new if path.suffix == ".md"]
    for path in sorted(wanted):
        files.append(File.generated(config, place(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Set links as in the site, words for the search, text made from the code, and the age of results."""
    if page.file.src_uri in KEYWORDS:
        page.meta["tags"] = list(KEYWORDS[page.file.src_uri])
    top = page.ancestors[-1].title if page.ancestors else "Get started"
    page.meta["search"] = {"boost": BOOST.get(top, 1.0)}
    path, here = origin(page.file.src_uri), str(PurePosixPath(page.file.src_uri).parent)

    def moved(match: re.Match[str]) -> str:
        target = (path.parent / match[0]).resolve()
        return relpath(place(target), here) if target.is_file() else match[0]

    markdown = TARGET.sub(moved, markdown)
    if "measured" in page.meta:
        heading, rest = markdown.lstrip().split("\n", 1)
        said = measured(path)
        markdown = f'{heading}\n\n!!! note "{said.title()}"\n    {said.age()}\n{rest}'
    return "\n".join(map(_expanded, markdown.split("\n")))


def on_page_content(html: str, **_: Any) -> str:
    """Convert empty headings of tables to cells."""
    return re.sub(r"<th( [^>]*)?></th>", r"<td\1></td>", html)


def _expanded(line: str) -> str:
    """Return a line of a page, or the text that it stands for."""
    if line.startswith(COMMANDS):
        text = _printed("-m", "typer", "prefrec_ray.cli.main", "utils", "docs", "--name", "prefrec")
        return text[text.index("## `prefrec ") :]
    if line.startswith(TREE):
        return f"```\n{_printed('docs/tree.py')}```"
    if line.startswith(VERDICTS):
        return table()
    return _printed("docs/settings.py") if line.startswith(SETTINGS) else line


def _printed(*command: str) -> str:
    """Return the output of Python with these arguments."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, text=True).stdout
