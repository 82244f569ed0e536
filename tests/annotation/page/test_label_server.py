"""The command over HTTP: who may do what, forms of other pages, sizes, hosts, names, and a token."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_store import DATASET, EVIL, Browser, Server, invite, served, write_store

from prefrec_ray.annotation.labels import read_votes
from prefrec_ray.cli.main import run

TOKEN = "a token of a test, long enough"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("served") / "store"
    write_store(store, pairs=60)
    return store


@pytest.fixture(scope="module")
def links(folder: Path) -> dict[str, str]:
    return {name: invite(folder, name) for name in ("anna", "bo")}


@pytest.fixture(scope="module")
def server(folder: Path, links: dict[str, str]) -> Iterator[Server]:
    rows = [["item_id", "title"], *([f"{EVIL}{number}", f"Title {EVIL}"] for number in range(9))]
    with (folder / "items.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    (folder / "guide.md").write_text(f"Look *well*. {EVIL} [here](javascript:alert(1))")
    config = {"label": {"items": str(folder / "items.csv"), "guidelines": str(folder / "guide.md")}}
    (folder / "label.yaml").write_text(json.dumps(config))
    with served(folder, "--config", str(folder / "label.yaml")) as process:
        yield process


@pytest.fixture
def anna(server: Server, links: dict[str, str]) -> Browser:
    browser = Browser(server.url)
    browser.open(links["anna"])
    return browser


@pytest.fixture
def admin(server: Server) -> Browser:
    browser = Browser(server.url)
    browser.open(server.admin)
    return browser


def test_a_session_is_answered_and_exported(anna: Browser, admin: Browser, tmp_path: Path) -> None:
    assert anna.status == 200
    before = len(admin.open("/admin/votes.jsonl").splitlines())
    labels = ("first", "second", "tie", "skip")
    assert [anna.answer(label) for label in labels] == [200] * 4
    assert "I cannot tell" in anna.text
    exported = admin.open("/admin/votes.jsonl")
    (tmp_path / "votes.jsonl").write_text(exported)
    rows = [json.loads(line) for line in exported.splitlines()]
    assert len(rows) == before + 4
    assert len(read_votes(str(tmp_path / "votes.jsonl"), {row["pair_id"] for row in rows})) == len(rows)


def test_nothing_of_the_log_is_told(anna: Browser) -> None:
    """No script from a title, a kind of feedback or the guidelines is executed, and no outcome is shown."""
    assert "Title &lt;script&gt;alert(1)" in anna.text
    assert "mean &lt;script&gt;alert(1)" in anna.text
    assert "Look <em>well</em>. &lt;script&gt;" in anna.text
    assert "<script>" not in anna.text
    assert 'href="javascript' not in anna.text
    policy = anna.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert anna.headers["x-content-type-options"] == "nosniff"
    assert anna.headers["cache-control"] == "no-store"


def test_a_vote_changes_nothing_that_the_annotator_sees_of_its_pair(anna: Browser, folder: Path) -> None:
    """After a vote the page has the annotator's own answer only: no outcome, no score, no sign of a gold pair."""
    for label, words in (("first", "A is better"), ("second", "B is better"), ("tie", "Equally good")):
        anna.open("/")
        assert anna.answer(label) == 200
        (previous,) = re.findall(r'<p class="previous"[^>]*>(.*?)</p>', anna.text, re.S)
        assert previous == f"Your last answer: {words}."
        for hint in ("rule", "teacher", "gold", "came back", "Next visit", "right", "wrong", "scores"):
            assert hint not in anna.text.partition("<main>")[2].replace("from left to right", "")


def test_a_cookie_is_not_for_scripts_nor_for_other_sites(server: Server, links: dict[str, str]) -> None:
    import http.client

    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    connection.request("GET", links["anna"])
    cookie = connection.getresponse().getheader("set-cookie")
    assert cookie is not None
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


def test_links(server: Server, folder: Path) -> None:
    browser, expired = Browser(server.url), invite(folder, "carl", days=-1.0)
    for link in (expired, f"{expired}x", "/enter/nonsense", "/enter/%00"):
        browser.open(link)
        assert (browser.status, "This link has ended" in browser.text) == (401, True)
    for path in ("/", "/admin", "/admin/votes.jsonl", "/pictures/a.png"):
        browser.open(path)
        assert (browser.status, "You need an invitation" in browser.text) == (401, True)


def test_an_annotator_has_no_rights_of_the_admin(anna: Browser, admin: Browser) -> None:
    for path in ("/admin/invite", "/admin/withdraw"):
        anna.open(path, {"name": "eve"})
        assert anna.status == 401
    assert "eve" not in admin.open("/admin")


def test_answers_that_are_none(anna: Browser) -> None:
    for label, changes in (
        ("best", {}),
        ("first", {"question": "x" * 65}),
    ):
        anna.open("/")
        assert (anna.answer(label, **changes), "Something is wrong" in anna.text) == (422, True)
    anna.open("/")
    assert anna.answer("first", question="another") == 409
    assert "out of date" in anna.text
    anna.open("/")
    form = {"question": anna.hidden("question"), "label": "first"}
    anna.open("/answer", {**form, "more": "x" * 20_000})
    assert anna.status == 413
    anna.open("/answer", form, {"content-type": "application/json"})
    assert anna.status == 415


def test_another_host_is_refused_without_a_token(anna: Browser) -> None:
    anna.open("/", headers={"host": "evil.example"})
    assert anna.status == 403
    assert "PREFREC_LABEL_TOKEN" in anna.text


def test_a_form_that_another_site_sends_is_refused_also_with_the_right_fields(anna: Browser, admin: Browser) -> None:
    form = {"question": anna.hidden("question"), "label": "first"}
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        for path in ("/answer", "/undo"):
            anna.open(path, form, headers)
            assert (anna.status, "expected a page of this server" in anna.text) == (403, True)
        admin.open("/admin/invite", {"name": "eve"}, headers)
        assert admin.status == 403
    anna.open("/", headers={"sec-fetch-site": "cross-site"})  # a link in a mail
    assert anna.status == 200
    anna.open("/answer", form, {"origin": anna.url, "sec-fetch-site": "same-origin"})
    assert anna.status == 200


def test_somebody_is_invited(admin: Browser, server: Server) -> None:
    admin.open("/admin")
    for name in ("", " ", "@admin", "<b>", "x" * 65, "a\0b"):
        admin.open("/admin/invite", {"name": name})
        assert admin.status == 422
    admin.open("/admin/invite", {"name": "Zoë  Ö."})
    link = link_of(admin, "Zoë Ö.")
    assert link.startswith(f"{server.url}/enter/")
    zoe = Browser(server.url)
    zoe.open(link)
    assert (zoe.status, zoe.answer("first")) == (200, 200)


def link_of(admin: Browser, name: str) -> str:
    """The link on the admin page that can be copied."""
    (link, *_) = re.findall(rf'class="link" value="([^"]+)" aria-label="Link: {name}"', admin.text)
    return link


def test_a_withdrawn_invitation_ends_at_once_and_its_votes_stay(admin: Browser, server: Server) -> None:
    admin.open("/admin")
    admin.open("/admin/invite", {"name": "will"})
    link, will, again = link_of(admin, "will"), Browser(server.url), Browser(server.url)
    will.open(link)
    assert will.answer("first") == 200
    votes = admin.open("/admin/votes.jsonl").count('"will"')
    assert votes == 1
    admin.open("/admin/withdraw", {"name": "nobody"})
    assert admin.status == 404
    admin.open("/admin/withdraw", {"name": "will"})
    assert admin.status == 200
    assert "withdrawn" in admin.text
    # The open session and the link both end.
    for path in ("/", link):
        will.open(path)
        assert will.status == 401
    again.open(link)
    assert (again.status, "This link has ended" in again.text) == (401, True)
    assert admin.open("/admin/votes.jsonl").count('"will"') == votes
    # A new invitation works; the withdrawn link still does not.
    admin.open("/admin/invite", {"name": "will"})
    will.open(link_of(admin, "will"))
    assert will.status == 200
    again.open(link)
    assert again.status == 401


def test_only_one_server_and_only_of_its_data_set(
    server: Server, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["label", DATASET, "--store", str(folder), "--port", "0"]) == 2
    assert "writes there" in capfd.readouterr().err
    write_store(tmp_path / "store", pairs=5)
    assert run(["label", "/another", "--store", str(tmp_path / "store"), "--port", "0"]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert run(["label", DATASET, "--store", str(folder), "--host", "0.0.0.0"]) == 2
    assert "PREFREC_LABEL_TOKEN" in capfd.readouterr().err
    assert run(["label", str(tmp_path / "none"), "--store", str(tmp_path / "new")]) == 2
    assert "not a prepared data set" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()


def test_with_a_token_any_host_and_an_admin_without_a_cookie(tmp_path: Path) -> None:
    write_store(tmp_path / "store", pairs=5)
    with served(tmp_path / "store", token=TOKEN) as process:
        browser = Browser(process.url)
        browser.open("/admin", headers={"host": "label.example", "authorization": f"Bearer {TOKEN}"})
        assert browser.status == 200
        browser.open("/admin", headers={"authorization": "Bearer another"})
        assert browser.status == 401
        browser.open("/admin/invite", {"name": "eve"}, {"authorization": f"Bearer {TOKEN}"})
        assert "Link for eve" in browser.text


def test_an_address_without_a_token_is_refused_before_a_store_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PREFREC_LABEL_TOKEN", raising=False)
    assert run(["label", "nowhere", "--store", str(tmp_path / "store"), "--host", "0.0.0.0"]) == 2
    assert "--host 0.0.0.0: found an address that others can reach" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
