"""The load balancer's key while it changes: both lines of the secret are good, and nothing else."""

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from common import access, errors, secrets
from common.settings import settings


@pytest.fixture
def edge_key(tmp_path, monkeypatch):
    """Write the secret as Secret Manager mounts it."""
    for name in ("SERVICE", "DATABASE_URL", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "unused")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    settings.cache_clear()

    def write(text):
        secrets._seen.clear()
        (tmp_path / "edge-key").write_text(text)

    yield write
    secrets._seen.clear()
    settings.cache_clear()


def let_in(given):
    try:
        access.check_edge(Request(EnvironBuilder(headers={"X-Edge-Key": given}).get_environ()))
    except errors.Problem as problem:
        return problem.code
    return True


def test_both_while_it_changes(edge_key):
    edge_key("before\n")
    assert [let_in(key) for key in ("before", "after")] == [True, "forbidden"]
    edge_key("before\nafter\n")
    assert [let_in(key) for key in ("before", "after")] == [True, True]
    edge_key("after")
    assert [let_in(key) for key in ("before", "after")] == ["forbidden", True]


@pytest.mark.parametrize("given", ["", " ", "\n", "beforeafter", "before\nafter", "BEFORE", "befor", "é"])
def test_nothing_else(edge_key, given):
    edge_key("before\nafter\n")
    try:
        assert let_in(given) == "forbidden"
    except ValueError:
        assert "\n" in given  # no header holds a line end


def test_an_empty_secret_lets_nobody_in(edge_key):
    edge_key("\n")
    assert [let_in(key) for key in ("", "x")] == ["forbidden", "forbidden"]
