"""The page in a real headless Chromium: a whole session by keys, undo, reload, two people, sizes, accessibility."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from shutil import which

import pytest
from hand_store import Server, invite, served, write_store

from prefrec_ray.annotation.page.store import Store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)")
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 420, "height": 860}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    launched = tmp_path_factory.mktemp("browser") / "store"
    write_store(launched, pairs=30, known=1)
    (launched / "label.yaml").write_text("label: {votes: 2, repeats: 0.0}\n")
    return launched


@pytest.fixture(scope="module")
def links(folder: Path) -> dict[str, str]:
    return {name: invite(folder, name, days) for name, days in (("anna", 1), ("bo", 1), ("cy", 1), ("late", -1))}


@pytest.fixture(scope="module")
def server(folder: Path, links: dict[str, str]) -> Iterator[Server]:
    with served(folder, "--config", str(folder / "label.yaml")) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Page:
    """A page of one annotator, which must not write to the console."""

    def __init__(self, browser: object, url: str, size: dict[str, int] = WIDE) -> None:
        self.page = browser.new_context(viewport=size).new_page()  # type: ignore[attr-defined]
        self.console_lines: list[str] = []
        self.page.on("console", lambda message: self.console_lines.append(message.text))
        self.page.on("pageerror", lambda error: self.console_lines.append(str(error)))
        self.page.goto(url)

    def press(self, *keys: str) -> None:
        """Presses keys, each on the page that the one before led to."""
        for key in keys:
            with self.page.expect_navigation():
                self.page.keyboard.press(key)

    @property
    def answered(self) -> int:
        return int(re.match(r"\d+", self.page.locator(".progress").inner_text())[0])

    @property
    def question(self) -> str:
        """Return the contents of the two histories."""
        return self.page.locator(".sides").inner_html()


def votes(folder: Path) -> list[tuple[str, str]]:
    store = Store(str(folder))
    labels = [(vote.annotator, vote.label) for vote in store.votes()]
    store.close()
    return labels


def test_a_session_by_keys(browser: object, server: Server, links: dict[str, str], folder: Path) -> None:
    page = Page(browser, server.url + links["anna"])
    assert page.answered == 0
    first = page.question
    page.press("1", "2", "3")
    assert page.answered == 3
    page.press("4")
    assert "I cannot tell" in page.page.locator(".previous").inner_text()
    # Undo shows the pair that was taken back, and reloading keeps it.
    page.press("u", "u", "u", "u")
    assert (page.answered, page.question) == (0, first)
    page.page.reload()
    assert page.question == first
    # With only Tab and Enter.
    labels = []
    for _ in range(12):
        page.page.keyboard.press("Tab")
        labels.append(page.page.evaluate("document.activeElement.textContent.trim()"))
        outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        if "Equally good" in labels[-1]:
            break
    assert labels[0] == "To the answers"
    page.press("Enter")
    assert page.answered == 1
    mine = [label for who, label in votes(folder) if who == "anna"]
    assert mine == ["tie"]
    assert page.console_lines == []


def test_two_people_on_one_pair(browser: object, server: Server, links: dict[str, str], folder: Path) -> None:
    pages = [Page(browser, server.url + links[name]) for name in ("bo", "cy")]
    for _ in range(6):
        for page in pages:
            page.press("1")
    store = Store(str(folder))
    pairs = {name: {v.pair for v in store.votes() if v.annotator == name} for name in ("bo", "cy")}
    store.close()
    assert {len(pair_ids) for pair_ids in pairs.values()} == {6}
    assert len(pairs["bo"] & pairs["cy"]) >= 4


def test_an_invitation_is_copied_opened_and_withdrawn(browser: object, server: Server) -> None:
    admin = Page(browser, server.admin).page
    admin.context.grant_permissions(["clipboard-read", "clipboard-write"])
    admin.get_by_label("Name").fill("eve")
    admin.get_by_role("button", name="Make a link").click()
    field = admin.get_by_label("Link: eve")
    field.wait_for()
    admin.wait_for_load_state()  # the script that selects the link runs after the page was parsed
    field.focus()
    selected = admin.evaluate("document.activeElement.value.slice(...[0, document.activeElement.selectionEnd])")
    assert selected == field.input_value()
    admin.get_by_role("button", name="Copy: eve").click()
    admin.wait_for_function("document.querySelector('[aria-label=\"Copy: eve\"]').textContent === 'Copied'")
    link = admin.evaluate("navigator.clipboard.readText()")
    assert link == field.input_value()
    eve = Page(browser, link)
    eve.press("1")
    assert eve.answered == 1
    # After a vote the annotator sees the vote, and nothing about whether it was right.
    assert eve.page.locator(".previous").inner_text() == "Your last answer: A is better."
    admin.get_by_role("button", name="Withdraw: eve").click()
    assert admin.get_by_label("Link: eve").count() == 0
    assert "withdrawn" in admin.get_by_role("row", name="eve").inner_text()
    eve.page.reload()
    assert eve.page.locator("h1").inner_text() == "You need an invitation"


def test_both_histories_have_the_same_axis(browser: object, server: Server, links: dict[str, str]) -> None:
    page = Page(browser, server.url + links["cy"], NARROW).page
    axes = [side.locator(".tick").all_inner_texts() for side in page.locator(".side").all()]
    assert axes[0] == axes[1]
    assert len(axes[0]) >= 2
    assert "since the first visit" in page.locator(".axis").first.inner_text()
    boxes = page.evaluate(
        "[...document.querySelectorAll('.side:first-child .tick')].map(e => e.getBoundingClientRect())"
    )
    assert all(a["right"] < b["left"] for a, b in pairwise(boxes))
    assert all(box["height"] >= 11 for box in boxes)


def test_a_link_that_has_ended(browser: object, server: Server, links: dict[str, str]) -> None:
    page = Page(browser, server.url + links["late"]).page
    assert page.locator("h1").inner_text() == "This link has ended"


@pytest.mark.parametrize(
    ("size", "scheme"), [(WIDE, "light"), (NARROW, "light"), (WIDE, "dark")], ids=["1280", "420", "dark"]
)
def test_everybody_can_use_it(
    browser: object, server: Server, links: dict[str, str], size: dict[str, int], scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = Page(browser, server.url + links["cy"], size)
    page.page.emulate_media(color_scheme=scheme)
    background = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(18, 18, 21)" if scheme == "dark" else "rgb(244, 244, 246)")
    for path in ("/", server.admin):
        page.page.goto(path if "://" in path else server.url + path)
        for summary in page.page.locator("summary").all():
            summary.click()
        results = axe.run(page.page)
        assert results.violations_count == 0, results.generate_report()
        assert page.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        small = page.page.evaluate(
            "[...document.querySelectorAll('button, summary, input:not([type=hidden]), a.button')]"
            ".map(e => [e.textContent, e.getBoundingClientRect()]).filter(([t, r]) => r.height < 44 || r.width < 44)"
        )
        assert small == []
    assert page.console_lines == []


def test_without_scripts(browser: object, server: Server, links: dict[str, str]) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()  # type: ignore[attr-defined]
    page.goto(server.url + links["bo"])
    before = page.locator(".progress").inner_text()
    page.get_by_role("button", name="A is better").click()
    assert page.locator(".progress").inner_text() != before
