"""GET /.well-known/security.txt: whoever finds a weakness finds out where to report it (RFC 9116)."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from common.errors import Problem
from functions.auth import contact

NOW = datetime(2026, 2, 27, 13, 30, tzinfo=UTC)
URL = "https://api.example.org"


@pytest.fixture
def given(monkeypatch):
    """The text under these settings."""

    def written(who: str, policy: str = "") -> str | None:
        known = SimpleNamespace(security_contact=who, disclosure_policy=policy, public_url=URL)
        monkeypatch.setattr(contact, "settings", lambda: known)
        return contact.written(NOW)

    return written


def fields(text: str) -> list[tuple[str, str]]:
    return [(line.split(": ", 1)[0], line.split(": ", 1)[1]) for line in text.splitlines()]


def test_it_says_where_to_report(api, stack):
    answer = api.get("/.well-known/security.txt")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    said = dict(fields(answer.text))
    assert said["Contact"] == "mailto:security@example.org"
    assert said["Canonical"] == f"{stack['api']}/.well-known/security.txt"
    ends = datetime.fromisoformat(said["Expires"])
    assert timedelta(days=28) < ends - datetime.now(UTC) <= timedelta(days=30)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_addresses_in_their_order(given):
    text = given("security@example.org, https://example.org/report,tel:+49-30-1", "https://example.org/policy")

    assert fields(text) == [
        ("Contact", "mailto:security@example.org"),
        ("Contact", "https://example.org/report"),
        ("Contact", "tel:+49-30-1"),
        ("Expires", "2026-03-29T00:00:00Z"),
        ("Canonical", f"{URL}/.well-known/security.txt"),
        ("Policy", "https://example.org/policy"),
        ("Preferred-Languages", "en"),
    ]
    assert text.endswith("\n")


def test_without_an_address_there_is_none(given):
    assert given(" , ") is None
    with pytest.raises(Problem, match="not_found"):
        contact.security_txt(None)
