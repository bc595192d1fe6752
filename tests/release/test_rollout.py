"""A release against Cloud Run's Admin API, over HTTP: the order of its steps, and the way back from each."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import requests
from google.auth.exceptions import RefreshError

from tests.release.run_admin import TOKEN, RunAdmin, serving
from tools.release.api import Failed
from tools.release.cloud import Cloud
from tools.release.rollout import FIRST_JOBS, STEPS, Release, roll_back

ALL, INTERNAL = "INGRESS_TRAFFIC_ALL", "INGRESS_TRAFFIC_INTERNAL_ONLY"
SERVICES = {"auth": ALL, "projects": ALL, "keys": INTERNAL}
JOBS = [*FIRST_JOBS, "operator"]


def image(name: str) -> str:
    return f"registry.example/dev-context@sha256:{name.ljust(64, '0')}"


OLDER, OLD, NEW, OTHER = image("a0"), image("a1"), image("b2"), image("c3")


@pytest.fixture
def admin() -> Iterator[RunAdmin]:
    with serving(RunAdmin(SERVICES, JOBS, OLD)) as running:
        yield running


@pytest.fixture
def cloud(admin: RunAdmin) -> Iterator[Cloud]:
    with requests.Session() as session:
        session.headers["Authorization"] = TOKEN
        yield Cloud(session, lambda audience: f"for {audience}", "p", "europe-west1", admin.url, poll=0)


def release(cloud: Cloud, wanted: str, pause: object = None) -> list[str]:
    said: list[str] = []
    Release(cloud, wanted, list(SERVICES), ["operator"], said.append, pause or (lambda percent: None))()  # type: ignore[arg-type]
    return said


def shares(admin: RunAdmin) -> list[dict[str, int]]:
    return [admin.share(name) for name in SERVICES]


def test_it_works(admin: RunAdmin, cloud: Cloud) -> None:
    seen = []
    release(cloud, NEW, lambda percent: seen.append((percent, shares(admin))))

    assert shares(admin) == [{NEW: 100}] * 3
    assert [percent for percent, _ in seen] == list(STEPS)
    assert seen[0][1] == [{OLD: 95, NEW: 5}] * 3
    assert admin.jobs["operator"]["template"]["template"]["containers"][0]["image"] == NEW


def test_the_schema_comes_first_and_no_traffic_before_every_revision_is_there(admin: RunAdmin, cloud: Cloud) -> None:
    release(cloud, NEW)

    order = [act for act in admin.acts if act.startswith(("run", "deploy"))]
    runs = [f"run {name} b20000" for name in ("first-keys", "migrate", "provision")]
    assert order == [*runs, "deploy auth", "deploy projects", "deploy keys"]
    assert admin.deployed == [{OLD: 100}] * 3
    last = admin.acts.index("deploy keys")
    for act in admin.acts[:last]:
        assert "00002-abc=" not in act or "00002-abc=0" in act, act


def test_a_failed_migration_changes_no_function(admin: RunAdmin, cloud: Cloud) -> None:
    with pytest.raises(Failed, match="job first-keys"):
        release(cloud, image("broken"))

    assert [act for act in admin.acts if not act.startswith("run")] == []
    assert shares(admin) == [{OLD: 100}] * 3


@pytest.mark.parametrize("fault", ["bad", "ill", "late"])
def test_a_revision_that_is_not_well_gives_the_traffic_back(admin: RunAdmin, cloud: Cloud, fault: str) -> None:
    """It does not start; it does not reach its database; it fails under traffic."""
    with pytest.raises(Failed, match="did not become ready" if fault == "bad" else "answers 503"):
        release(cloud, image(fault))

    assert shares(admin) == [{OLD: 100}] * 3
    release(cloud, NEW)
    assert shares(admin) == [{NEW: 100}] * 3


def test_whoever_stops_it_gets_the_old_ones_back(admin: RunAdmin, cloud: Cloud) -> None:
    def stop(percent: int) -> None:
        if percent == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        release(cloud, NEW, stop)

    assert shares(admin) == [{OLD: 100}] * 3


def test_back_to_the_release_before_at_once(admin: RunAdmin, cloud: Cloud) -> None:
    release(cloud, NEW)
    before = len(admin.acts)

    roll_back(cloud, list(SERVICES), [], str)
    roll_back(cloud, list(SERVICES), [], str)

    assert shares(admin) == [{OLD: 100}] * 3
    assert not [act for act in admin.acts[before:] if not act.startswith("traffic")]


WRITES = len(SERVICES) * (2 + len(STEPS) + 1)  # a revision and its tag, the steps, the record


@pytest.mark.parametrize("again", [True, False], ids=["release-again", "go-back-twice"])
def test_killed_at_any_write(admin: RunAdmin, cloud: Cloud, again: bool) -> None:
    """What is left is never half of two releases, and never the one before the last. (One write leaves no trace.)"""
    release(cloud, OLDER)
    release(cloud, OLD)
    state = deepcopy(admin.services)
    for writes in range(2, WRITES):
        admin.services, admin.writes_left = deepcopy(state), writes
        with pytest.raises(Failed, match="503"):
            release(cloud, NEW)
        admin.writes_left = None
        moved = shares(admin) != [{OLD: 100}] * 3
        if again and moved:
            with pytest.raises(Failed, match="--back"):
                release(cloud, NEW)
        elif not again:
            roll_back(cloud, list(SERVICES), [], str)
            assert shares(admin) == [{OLD: 100}] * 3, writes
        roll_back(cloud, list(SERVICES), [], str)
        assert shares(admin) == [{OLD: 100}] * 3, writes


def test_a_release_that_is_killed_before_any_traffic_is_simply_done_again(admin: RunAdmin, cloud: Cloud) -> None:
    admin.writes_left = 3
    with pytest.raises(Failed, match="503"):
        release(cloud, NEW)
    admin.writes_left = None

    release(cloud, NEW)
    assert shares(admin) == [{NEW: 100}] * 3


def test_what_google_refuses_once_is_asked_for_again(admin: RunAdmin, cloud: Cloud) -> None:
    """A look that meets a 503; a way back that does."""
    admin.hiccups = 2
    release(cloud, NEW)

    def fault(percent: int) -> None:
        admin.refuses = "projects"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        release(cloud, OTHER, fault)
    assert shares(admin) == [{NEW: 100}] * 3


def test_one_that_cannot_be_put_back_stops_no_other_one(admin: RunAdmin, cloud: Cloud) -> None:
    """No token is to be had while the last of them is put back."""

    def fault(percent: int) -> None:
        cloud.session.auth = tokenless
        raise KeyboardInterrupt

    def tokenless(asked: requests.PreparedRequest) -> requests.PreparedRequest:
        if str(asked.url).endswith("/services/keys"):
            raise RefreshError("no token")  # type: ignore[no-untyped-call]
        return asked

    with pytest.raises(KeyboardInterrupt):
        release(cloud, NEW, fault)
    assert shares(admin) == [{OLD: 100}] * 2 + [{OLD: 95, NEW: 5}]


@pytest.mark.parametrize("name", ["operator", "keys"])
def test_what_fails_at_the_very_end_gives_the_traffic_back(admin: RunAdmin, cloud: Cloud, name: str) -> None:
    """A job's image; the record of the last service."""

    def fault(percent: int) -> None:
        if percent == 100:
            admin.refuses = name

    with pytest.raises(Failed, match="503"):
        release(cloud, NEW, fault)
    assert shares(admin) == [{OLD: 100}] * 3


def test_two_releases_at_once_do_not_mix(admin: RunAdmin, cloud: Cloud) -> None:
    """One that comes while traffic moves is refused before it migrates; of two that begin together one goes through."""
    begun: list[str] = []

    def later(percent: int) -> None:
        runs = len(admin.acts)
        with pytest.raises(Failed, match="another release"):
            release(cloud, OTHER)
        assert len(admin.acts) == runs

    release(cloud, NEW, later)
    assert shares(admin) == [{NEW: 100}] * 3

    def other(said: str) -> None:
        begun.append(said)
        if "is there, without traffic" in said and begun.count(said) == 1 and said.startswith("projects"):
            release(cloud, OTHER)

    with pytest.raises(Failed):
        Release(cloud, image("d4"), list(SERVICES), [], other, lambda percent: None)()
    assert shares(admin) == [{OTHER: 100}] * 3
    assert [said for said in begun if "NOT put back" in said]


def test_a_release_waits_for_another_one_to_end(admin: RunAdmin, cloud: Cloud) -> None:
    """What came to main a little later is not left behind: it follows."""
    waited: list[str] = []

    def say(said: str) -> None:
        if said.startswith("waits"):
            assert not [act for act in admin.acts if act.endswith(" c30000")], "nothing is migrated meanwhile"
            waited.append(said)
            roll_back(cloud, list(SERVICES), [], str)  # the other one ends

    class Stuck(Release):
        def _back(self, *about: object) -> None:
            """It was killed."""

    def kill(percent: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stuck(cloud, NEW, list(SERVICES), [], str, kill)()
    Release(cloud, OTHER, list(SERVICES), [], say, lambda percent: None, patience=60)()
    assert len(waited) == 1
    assert shares(admin) == [{OTHER: 100}] * 3


def test_what_runs_already_stays_as_it_is(admin: RunAdmin, cloud: Cloud) -> None:
    release(cloud, NEW)
    release(cloud, NEW)

    assert shares(admin) == [{NEW: 100}] * 3
    roll_back(cloud, list(SERVICES), [], str)
    assert shares(admin) == [{OLD: 100}] * 3


def test_what_terraform_applies_afterwards_reaches_nobody_before_the_next_release(
    admin: RunAdmin, cloud: Cloud
) -> None:
    release(cloud, NEW)
    service = cloud.service("auth")
    service["template"]["containers"][0]["env"] = [{"name": "RATE_USER", "value": "1/minute"}]
    cloud.update(service, "template")
    applied = cloud.service("auth")["latestReadyRevision"].rsplit("/", 1)[-1]

    assert [each["percent"] for each in admin.services["auth"]["trafficStatuses"] if each["revision"] == applied] == []
    release(cloud, NEW)
    assert cloud.service("auth")["traffic"][0]["revision"] == applied


def test_the_first_release_of_what_terraform_made_pins_the_traffic(admin: RunAdmin, cloud: Cloud) -> None:
    release(cloud, OLD)

    for service in admin.services.values():
        assert [(each["type"].split("_")[-1], each["percent"]) for each in service["traffic"]] == [("REVISION", 100)]


def test_somebody_elses_change_in_between_is_not_overwritten(admin: RunAdmin, cloud: Cloud) -> None:
    service = cloud.service("auth")
    cloud.update(
        cloud.service("auth") | {"traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]},
        "traffic",
    )

    with pytest.raises(Failed, match="409"):
        cloud.update(service, "traffic")
