"""`python -m tools.release` as it is called: who calls, what it is asked, and what ends it."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
import yaml
from google.oauth2.credentials import Credentials

from tests.release.run_admin import RunAdmin, serving
from tests.release.test_rollout import ALL, INTERNAL, NEW, OLD
from tools.release.__main__ import CATALOG, STOPS, main
from tools.release.parts import NOTHING, Served
from tools.release.rollout import FIRST_JOBS


class Still:
    """What stands behind the functions; test_behind_functions.py is about it."""

    def __init__(self, *about: object) -> None:
        self.about = about

    def serving(self) -> Served:
        return NOTHING

    def note(self, before: str) -> None:
        assert before == ""

    def publish(self, image: str, addresses: object) -> None:
        assert addresses

    def restore(self, before: str) -> None:
        assert before == ""


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunAdmin]:
    """Every service of the catalog, and somebody who may release."""

    def given(scopes: list[str]) -> tuple[Credentials, str]:
        assert [each.rsplit("/", 1)[-1] for each in scopes] == ["cloud-platform", "userinfo.email"]
        return Credentials("operator"), "p"  # type: ignore[no-untyped-call]

    monkeypatch.setattr("google.auth.default", given)
    monkeypatch.setattr("google.oauth2.id_token.fetch_id_token", lambda request, audience: f"for {audience}")
    monkeypatch.setattr("tools.release.__main__.Gateway", Still)
    monkeypatch.setattr("tools.release.__main__.Sessions", Still)
    before = {each: signal.getsignal(each) for each in STOPS}
    found = yaml.safe_load(CATALOG.read_text())
    services = {name: ALL if entry["ingress"] == "all" else INTERNAL for name, entry in found["services"].items()}
    with serving(RunAdmin(services, list(found["jobs"]), OLD)) as running:
        yield running
    for each, handler in before.items():
        signal.signal(each, handler)


def test_keys_and_schema_alone_before_a_new_function(whole: RunAdmin) -> None:
    """Its service is not there yet: it could not start."""
    whole.services.clear()

    assert command(whole, "--schema") == 0
    assert whole.acts == [f"run {name} b20000" for name in FIRST_JOBS]


def command(admin: RunAdmin, *more: str) -> int:
    return main(["--project", "p", "--endpoint", admin.url, "--poll", "0", "--pause", "0", NEW, *more])


class Stopping(list[str]):
    """From the first quarter of the traffic on, every act is followed by a request to stop."""

    def append(self, act: str) -> None:
        super().append(act)
        if any("=25" in each for each in self):
            os.kill(os.getpid(), signal.SIGTERM)


def test_asked_to_stop_it_goes_back_and_nothing_interrupts_that(whole: RunAdmin) -> None:
    whole.acts = Stopping()

    assert command(whole) == 1
    assert {*map(str, map(whole.share, whole.services))} == {str({OLD: 100})}


@pytest.mark.parametrize(("last", "code"), [("True", 0), ("False", 3)])
def test_what_comes_last_and_fails_takes_nothing_back(whole: RunAdmin, last: str, code: int) -> None:
    assert command(whole, "--", sys.executable, "-c", f"assert {last}") == code
    assert {*map(str, map(whole.share, whole.services))} == {str({NEW: 100})}


@pytest.mark.parametrize(
    "wrong",
    [
        ["europe/dev-context:latest"],
        ["--back", OLD],
        [],
        [OLD, "--", "no-such-command"],
        ["--schema", OLD, "--", "true"],
    ],
)
def test_what_is_not_asked_rightly(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--project", "p", *wrong])
    assert ended.value.code == 2
