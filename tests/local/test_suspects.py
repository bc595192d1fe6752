"""functions.incidents.suspects over the load balancer's log: who is found, who hides among successes, who is spared."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.credentials import Credentials

from common import cloud_logs
from common.settings import settings
from functions.incidents import suspects
from functions.incidents.answers import answers
from local.identity import Issuer
from local.layout import PROJECT, Layout, service_account
from tests.local.conftest import running

MINE, OTHER = "198.51.100.7", "198.51.100.8"
LOG_IN = "/v1/auth/login"
NOW = datetime.now(UTC)
MOST_READS = 60  # of a project in a minute: https://cloud.google.com/logging/quotas

Find = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def logging(shared_layout: Layout) -> Iterator[Layout]:
    """The stand-in, once for all: each test begins with an empty log."""
    shared_layout.path("log").mkdir()
    with running("local.logging_api", shared_layout, "logging"):
        yield shared_layout


@pytest.fixture
def find(logging: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Find]:
    """`find("failed_log_ins")`: the networks that would be blocked, as the service itself asks."""
    required = dict.fromkeys(("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"), "-")
    spared = {"NEVER_BLOCKED": "203.0.113.9/24, 2001:db8::5/48"}  # an address with the size of its network
    for name, value in {
        **required,
        **spared,
        "LOGGING_ENDPOINT": logging.url("logging"),
        "PROJECT_ID": PROJECT,
    }.items():
        monkeypatch.setenv(name, value)
    token = Issuer(logging.root).access_token(service_account("incidents"))
    credentials = Credentials(token)  # type: ignore[no-untyped-call]
    monkeypatch.setattr("google.auth.default", lambda **_: (credentials, PROJECT))
    logging.path("log", "load-balancer.log").write_text("")

    def forget() -> None:
        for cached in (settings, answers, cloud_logs._client):
            cached.cache_clear()

    def found(alert: str) -> list[str]:
        since = NOW - timedelta(minutes=11)
        return [str(network) for network, _ in suspects.find(answers()[alert], since, NOW + timedelta(minutes=1))]

    forget()
    yield found
    forget()


@pytest.fixture
def seen(logging: Layout) -> Callable[..., None]:
    """Requests as the load balancer logs them, `age` seconds ago."""

    def write(
        address: str, number: int, url: str = LOG_IN, status: int = 401, method: str = "POST", age: float = 5
    ) -> None:
        moment = (NOW - timedelta(seconds=age)).isoformat().replace("+00:00", "Z")
        request = {
            "requestMethod": method,
            "requestUrl": f"https://api.example.com{url}",
            "status": status,
            "remoteIp": address,
        }
        line = json.dumps({"time": moment, "httpRequest": request, "statusDetails": "via_upstream"}) + "\n"
        with logging.path("log", "load-balancer.log").open("a") as log:
            log.write(line * number)

    return write


@pytest.mark.parametrize(
    ("alert", "number", "cheap"),
    [
        ("failed_log_ins", 6, ("OPTIONS", LOG_IN, 204)),
        ("failed_log_ins", 6, ("HEAD", LOG_IN, 200)),
        ("unauthorized", 61, ("GET", "/health/", 200)),
        ("unauthorized", 61, ("GET", "/v1/openapi.json", 200)),
        ("unauthorized", 61, ("GET", "/v1/projects/../openapi.json", 200)),
        ("unauthorized", 61, ("POST", "/v1/auth/register", 202)),
        ("unauthorized", 61, ("GET", "/v1/auth/oidc/google/start", 302)),
        ("abnormal_usage", 301, ("OPTIONS", "/v1/projects", 204)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_succeeds_for_anybody_makes_no_crowd(
    find: Find, seen: Any, alert: str, number: int, cheap: tuple[str, str, int]
) -> None:
    """Ten of them for each guess would otherwise be a free pass."""
    method, url, status = cheap
    seen(MINE, number, status=429 if alert == "abnormal_usage" else 401)
    seen(MINE, 10 * number, url, status, method)

    assert find(alert) == [f"{MINE}/32"]


def test_people_who_work_are_a_crowd(find: Find, seen: Any) -> None:
    seen(MINE, 61, "/v1/projects", 401, "GET")
    seen(MINE, 610, "/v1/projects", 200, "GET")
    seen(OTHER, 61, "/v1/projects", 401, "GET")
    seen(OTHER, 609, "/v1/projects", 200, "GET")

    assert find("unauthorized") == [f"{OTHER}/32"]


@pytest.mark.parametrize(
    "url", ["/v1/%61uth/login", "//v1/auth/login", "/v1//auth///login", "/v1/x/../auth/login", "/v1/./auth/login?a=b"]
)
def test_another_spelling_of_the_same_address_hides_nobody(find: Find, seen: Any, url: str) -> None:
    """Gateway and service decode it; the load balancer logs it as it came."""
    seen(MINE, 6, url)
    seen(OTHER, 100, "/v1/%70rojects")

    assert find("failed_log_ins") == [f"{MINE}/32"]


def test_of_a_flood_the_newest_is_looked_at(find: Find, seen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd is judged by the seconds of which all was read: with 80 of its 200 successes it would be none."""
    monkeypatch.setattr(suspects, "MOST_ENTRIES", 80)
    seen("198.51.100.9", 200, age=400)
    seen(MINE, 64, age=9)
    seen(OTHER, 16, age=8)
    seen(OTHER, 200, status=200, age=7)

    assert find("failed_log_ins") == [f"{MINE}/32"]


def test_a_look_leaves_room_in_the_quota_of_reads(find: Find, seen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All alerts at once, each with as much to read as it may, stay within what a project may ask in a minute."""
    asked: list[str] = []
    request = AuthorizedSession.request

    def counted(self: Any, method: str, url: str, **options: Any) -> Any:
        asked.append(url)
        return request(self, method, url, **options)

    pages = suspects.MOST_ENTRIES / cloud_logs.PAGE
    monkeypatch.setattr(AuthorizedSession, "request", counted)
    monkeypatch.setattr(suspects, "MOST_ENTRIES", cloud_logs.PAGE)
    seen(MINE, 2 * cloud_logs.PAGE)
    assert find("failed_log_ins") == [f"{MINE}/32"]

    alerts = sum(answer.requests is not None for answer in answers().values())
    assert len(asked) * pages * alerts <= MOST_READS


def test_networks_are_spared_however_they_are_written(find: Find, seen: Any) -> None:
    """As Terraform takes them: the address of a machine, with the size of its network."""
    seen("203.0.113.200", 100)
    seen("2001:db8:0:7::1", 100)
    seen(MINE, 6)

    assert find("failed_log_ins") == [f"{MINE}/32"]
