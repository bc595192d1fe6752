"""The Cloud Logging stand-in, and the search that the product does in it through Google's client."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from google.oauth2.credentials import Credentials

from common import cloud_logs
from common.settings import settings
from local.identity import Issuer
from local.layout import PROJECT, Layout, service_account

NOW = datetime.now(UTC)
EARLIER = NOW - timedelta(days=30)
FILTER = 'timestamp>="2026-01-01T00:00:00Z" AND ("x")'


@pytest.fixture
def write(layout: Layout) -> Any:
    folder = layout.path("log")
    folder.mkdir()

    def append(name: str, *lines: str) -> None:
        with (folder / name).open("a") as file:
            file.writelines(line + "\n" for line in lines)

    return append


@pytest.fixture
def search(layout: Layout, start: Any, write: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """cloud_logs.search as deletions-jobs runs it."""
    required = dict.fromkeys(("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"), "-")
    for name, value in {**required, "LOGGING_ENDPOINT": layout.url("logging"), "PROJECT_ID": PROJECT}.items():
        monkeypatch.setenv(name, value)
    token = Issuer(layout.root).access_token(service_account("deletions-jobs"))
    credentials = Credentials(token)  # type: ignore[no-untyped-call]
    monkeypatch.setattr("google.auth.default", lambda **_: (credentials, PROJECT))
    settings.cache_clear()
    cloud_logs._client.cache_clear()
    with start("local.logging_api", layout, "logging"):
        yield cloud_logs.search
    settings.cache_clear()
    cloud_logs._client.cache_clear()


@pytest.fixture
def ask(layout: Layout, start: Any) -> Iterator[Any]:
    """A raw request: `ask("projects", filter="…")`."""

    def post(service: str = "deletions-jobs", token: str | None = None, **body: Any) -> requests.Response:
        token = token or Issuer(layout.root).access_token(service_account(service))
        document = {"resourceNames": [f"projects/{PROJECT}"], "filter": FILTER, **body}
        headers = {"Authorization": f"Bearer {token}"}
        return requests.post(layout.url("logging") + "/v2/entries:list", json=document, headers=headers, timeout=5)

    with start("local.logging_api", layout, "logging"):
        yield post


def line(moment: datetime = NOW, **fields: object) -> str:
    return json.dumps({"severity": "INFO", "time": moment.isoformat().replace("+00:00", "Z"), **fields})


def test_it_finds_a_text_in_any_field(search: Any, write: Any) -> None:
    write(
        "auth.log",
        line(message="hello ada@example.com"),
        line(message="nobody"),
        line(deep={"list": ["ADA@example.COM"]}),
    )
    write("gateway.log", "[warning] plain text with ada@example.com", line(message="ad@example.com"))
    write("projects.log.1", line(message="set aside: ada@example.com"))

    assert search(["ada@example.com"], EARLIER) == 4
    assert search(["ada@example.com", "nobody"], EARLIER) == 5
    assert search(["ada@example.com", "hello", "ada@example.com"], EARLIER) == 4
    assert search(["grace@example.com"], EARLIER) == 0
    assert search([], EARLIER) == search([""], EARLIER) == 0


def test_names_of_fields_are_not_searched(search: Any, write: Any) -> None:
    write("auth.log", line(message="who"))

    assert search(["severity"], EARLIER) == 0
    assert search(["who"], EARLIER) == 1


def test_only_what_is_young_enough(search: Any, write: Any) -> None:
    write("auth.log", line(NOW - timedelta(days=31), message="ada"), line(NOW - timedelta(days=29), message="ada"))

    assert search(["ada"], EARLIER) == 1


@pytest.mark.parametrize(
    "text",
    [
        'a "quoted" name',
        "back\\slash",
        '" OR "',
        "two\nlines\tand\ta tab",
        "Zoë Müller",
        "李小龙",
        "\x07bell",
        "\u2028",
        "🙂",
    ],
)
def test_every_text_is_looked_for_as_it_stands(search: Any, write: Any, text: str) -> None:
    write("auth.log", line(message=f"<{text}>"), line(message="something else"))
    write("tasks.log", json.dumps({"time": NOW.isoformat(), "message": f"<{text}>"}, ensure_ascii=False))

    assert search([text], EARLIER) == 2


def test_other_forms_of_the_same_letters(search: Any, write: Any) -> None:
    write("auth.log", line(message="ZOE\u0308"), line(message="\uff5a\uff4f\uff45"))

    assert search(["zo\u00eb"], EARLIER) == 1
    assert search(["Zoe"], EARLIER) == 1


def test_many_pages_and_many_texts(search: Any, write: Any) -> None:
    write("auth.log", *(line(message=f"entry {number} ada") for number in range(2500)))

    assert search(["ada"], EARLIER) == 2500
    texts = [f"absent-{number:04}-{'x' * 30}" for number in range(1000)]
    assert search([*texts, "entry 77 "], EARLIER) == 1
    assert len(list(cloud_logs._filters(texts, EARLIER))) > 2
    assert max(map(len, cloud_logs._filters(texts, EARLIER))) <= cloud_logs.LONGEST_FILTER


def test_pages_go_on_where_they_ended(ask: Any, write: Any) -> None:
    write("a.log", *(line(message=f"x{number}") for number in range(3)))
    write("b.log", *(line(message=f"x{number}") for number in range(3, 5)))

    first = ask(pageSize=3).json()
    second = ask(pageSize=3, pageToken=first["nextPageToken"]).json()

    seen = [entry["jsonPayload"]["message"] for page in (first, second) for entry in page["entries"]]
    assert seen == ["x0", "x1", "x2", "x3", "x4"]
    assert "nextPageToken" not in second
    assert len({entry["insertId"] for page in (first, second) for entry in page["entries"]}) == 5


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "x",
        '"x"',
        'timestamp>="yesterday" AND ("x")',
        'timestamp>="2026-01-01T00:00:00" AND ("x")',
        'timestamp>="2026-01-01T00:00:00Z" AND ("x" AND "y")',
        'timestamp>="2026-01-01T00:00:00Z" AND ("x" OR "y" "z")',
        'timestamp>="2026-01-01T00:00:00Z" AND ("a\\qb")',
        'timestamp>="2026-01-01T00:00:00Z" AND ("' + "x" * 20_000 + '")',
    ],
)
def test_what_is_not_in_our_filters_is_refused(ask: Any, write: Any, wanted: str) -> None:
    write("a.log", line(message="x"))
    answer = ask(filter=wanted)

    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "body",
    [
        {"resourceNames": ["projects/another"]},
        {"resourceNames": []},
        {"pageSize": 1001},
        {"pageSize": -1},
        {"pageToken": "nonsense"},
        {"orderBy": "severity desc"},
        {"unknown": 1},
    ],
)
def test_bad_requests(ask: Any, write: Any, body: dict[str, Any]) -> None:
    assert ask(**body).status_code == 400


def test_who_may(ask: Any, write: Any) -> None:
    assert ask("projects").status_code == ask("auth").status_code == 403
    assert ask("operator").status_code == 403
    assert ask("tester").status_code == 200
    assert ask(token="nonsense").status_code == 401


def test_no_answer_is_no_result_and_tells_no_text(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGGING_ENDPOINT", "http://127.0.0.1:9")
    settings.cache_clear()
    cloud_logs._client.cache_clear()

    with pytest.raises(cloud_logs.Unsearchable) as error:
        search(["ada@example.com"], EARLIER)
    assert "ada" not in str(error.value)
    assert error.value.__cause__ is None


def test_fields_of_requests_are_compared(ask: Any, write: Any) -> None:
    moment, tomorrow = NOW.isoformat().replace("+00:00", "Z"), (NOW + timedelta(days=1)).isoformat()
    for status, address, details in (
        (401, "198.51.100.7", "via_upstream"),
        (200, "198.51.100.200", "via_upstream"),
        (403, "198.51.100.8", "rbac_access_denied_matched_policy[incident]"),
    ):
        request = {"status": status, "remoteIp": address, "requestUrl": "http://h/v1/auth/login"}
        write("load-balancer.log", json.dumps({"time": moment, "httpRequest": request, "statusDetails": details}))
    write("auth.log", line(message="x"))

    for wanted, found in {
        "httpRequest.status=401": 1,
        "httpRequest.status=(401 OR 403)": 2,
        "httpRequest.status<400": 1,
        "httpRequest.status>=401 AND NOT httpRequest.status=403": 1,
        'httpRequest.requestUrl=~"^https?://[^/]+/v1/auth/(login|x)"': 3,
        'jsonPayload.statusDetails="response_sent_by_backend"': 2,
        'jsonPayload.statusDetails="denied_by_security_policy"': 1,
        'ip_in_net(httpRequest.remoteIp, "198.51.100.0/25")': 2,
        'resource.type="http_load_balancer"': 3,
        'resource.type="cloud_run_revision"': 1,
        f'timestamp<"{tomorrow}" AND httpRequest.status=401': 1,
        f'timestamp>="{tomorrow}"': 0,
    }.items():
        assert len(ask(filter=wanted).json().get("entries", [])) == found, wanted
