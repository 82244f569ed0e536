"""Checks of headers, requests of pages of other sites, and limits of connections."""

from __future__ import annotations

import resource

import pytest

from prefrec_ray.web.problems import Problem, check_body, check_host, check_origin, has_token
from prefrec_ray.web.run import Limits

TOKEN = "a token of some length"


def headers(text: str) -> dict[bytes, bytes]:
    """Return the headers in `name: value | name: value`."""
    lines = (line.partition(": ") for line in text.split(" | ") if line)
    return {name.encode(): value.encode() for name, _, value in lines}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_of_a_token_may_be_written_in_any_case(scheme: str) -> None:
    assert has_token(headers(f"authorization: {scheme} {TOKEN}"), TOKEN)
    assert has_token(headers(f"authorization: {scheme}  {TOKEN}"), TOKEN)


@pytest.mark.parametrize(
    "sent", ["", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}", "é"]
)
def test_everything_else_is_no_token(sent: str) -> None:
    assert not has_token({b"authorization": sent.encode()}, TOKEN)
    assert not has_token({b"authorization": sent.encode()}, None)


LOCAL = "host: localhost:8080"


@pytest.mark.parametrize(
    ("method", "sent", "passes"),
    [
        ("POST", LOCAL, True),  # a program
        ("POST", f"{LOCAL} | sec-fetch-site: same-origin | origin: http://localhost:8080", True),
        ("POST", f"{LOCAL} | sec-fetch-site: none", True),
        ("POST", f"{LOCAL} | origin: http://localhost:8080", True),
        ("POST", f"{LOCAL} | origin: http://LOCALHOST:8080", True),
        ("POST", "host: label.example | origin: https://label.example", True),
        ("POST", f"{LOCAL} | sec-fetch-site: cross-site", False),
        ("PUT", f"{LOCAL} | sec-fetch-site: cross-site", False),
        ("DELETE", f"{LOCAL} | sec-fetch-site: cross-site", False),
        ("POST", f"{LOCAL} | sec-fetch-site: same-site | origin: http://localhost:3000", False),
        ("POST", f"{LOCAL} | sec-fetch-site: cross-site | origin: http://localhost:8080", False),
        ("POST", f"{LOCAL} | sec-fetch-site: ", False),
        ("POST", f"{LOCAL} | origin: https://evil.example", False),
        ("POST", f"{LOCAL} | origin: http://localhost:3000", False),
        ("POST", f"{LOCAL} | origin: null", False),
        ("POST", "origin: null", False),
        ("POST", "host:  | origin: null", False),
        ("GET", f"{LOCAL} | sec-fetch-site: cross-site | origin: https://evil.example", True),
        ("HEAD", f"{LOCAL} | sec-fetch-site: cross-site", True),
    ],
)
def test_a_page_of_another_site_changes_nothing(method: str, sent: str, passes: bool) -> None:
    if passes:
        check_origin(method, headers(sent))
    else:
        with pytest.raises(Problem, match=r"^origin '.*; expected a page of this server, or no browser$") as caught:
            check_origin(method, headers(sent))
        assert caught.value.status == 403


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("", None),
        ("content-length: 0", None),
        ("content-type: application/json | content-length: 10", None),
        ("content-type: Application/JSON; charset=utf-8 | content-length: 10", None),
        ("content-type: application/json | transfer-encoding: chunked", None),
        ("content-length: 10", 415),
        ("transfer-encoding: chunked", 415),
        # Browsers send these to another site without asking it first, with or without a body.
        ("content-type: text/plain | content-length: 10", 415),
        ("content-type: text/plain;application/json | content-length: 10", 415),
        ("content-type: multipart/form-data; boundary=x | content-length: 10", 415),
        ("content-type: application/x-www-form-urlencoded | content-length: 0", 415),
        ("content-type: application/x-www-form-urlencoded", 415),
        ("content-type: application/json | content-length: 11", 413),
        ("content-type: application/json | content-length: 1e1", 413),
        ("content-type: application/json | content-length: -1", 413),
        ("content-type: application/json | content-length: 99999999999999999999999", 413),
    ],
)
def test_a_body_is_small_and_of_one_content_type(sent: str, status: int | None) -> None:
    if status is None:
        check_body(headers(sent), 10, b"application/json")
    else:
        with pytest.raises(Problem) as caught:
            check_body(headers(sent), 10, b"application/json")
        assert caught.value.status == status


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.0.0.2:80", "[::1]", "[::1]:8080"])
def test_without_a_token_this_machine_is_served(host: str) -> None:
    check_host(headers(f"host: {host}"), "VARIABLE")


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "::1", "x:"]
)
def test_and_no_other_host(host: str) -> None:
    with pytest.raises(Problem, match=r"^host: found .*; expected localhost, or a token \(VARIABLE\)$"):
        check_host(headers(f"host: {host}"), "VARIABLE")


@pytest.mark.parametrize(
    ("files", "raised", "connections"),
    [
        ((1024, 20_000), 4_256, 4_000),
        ((1024, resource.RLIM_INFINITY), 4_256, 4_000),
        ((20_000, 20_000), 20_000, 4_000),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), resource.RLIM_INFINITY, 4_000),
        ((1024, 1024), 1024, 768),
    ],
)
def test_limits_fit_into_the_files_that_a_process_may_open(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int], raised: int, connections: int
) -> None:
    now = [files]
    monkeypatch.setattr(resource, "getrlimit", lambda _: now[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: now.append(limit))
    limits = Limits().within_files()
    assert now[-1] == (raised, files[1])
    assert limits.connections == connections


def test_the_limits_are_those_of_the_documentation() -> None:
    """The table of docs/deploy.md."""
    limits = Limits()
    assert (limits.head_seconds, limits.body_seconds, limits.idle_seconds) == (10, 60, 75)
    assert (limits.head_bytes, limits.connections) == (65_536, 4_000)
