"""Rate limits through the gateway: what counts for whom, in which order it refuses, and what happens without Valkey.

The address of a client is the one it connects from: each test takes a loopback address of its own.
"""

import itertools
import json
import os
import random
import re
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import valkey
from limits import RateLimitItemPerSecond, parse
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter
from requests.adapters import HTTPAdapter

from common.limits import SCRIPT
from common.rates import parse as our_parse
from local.layout import Layout
from tests.auth.support import log_in, refresh
from tests.conftest import PASSWORD, Answer, Api, People, Person, database, pid_of, running_stack, wait_until
from tests.sessions.clients import Sse

RATES = {
    **{"RATE_ANONYMOUS": "10/hour", "RATE_USER": "8/hour", "RATE_IP": "30/hour", "RATE_ORGANIZATION": "12/hour"},
    **{"RATE_EVENTS": "5/hour", "STREAMS_PER_ORGANIZATION": "2"},
}
ITEM = re.compile(r'"([a-z]+)"((?:;[a-z]+=\d+)+)')
ADDRESSES = itertools.count(2)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    only = ["auth", "organizations", "projects", "sessions"]
    with running_stack(tmp_path_factory.mktemp("limited"), only=only, **RATES) as running:
        yield running


class From(HTTPAdapter):
    """Connections from one address."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, source_address=(self.address, 0), **options)


class Client(Api):
    """A client with an address of its own."""

    def __init__(self, base: str, address: str) -> None:
        super().__init__(base)
        self.address = address
        self._session.mount("http://", From(address))


@pytest.fixture
def api(stack: dict[str, Any]) -> Iterator[Client]:
    client = Client(stack["api"], f"127.0.1.{next(ADDRESSES)}")
    yield client
    client._session.close()


@pytest.fixture
def elsewhere(stack: dict[str, Any]) -> Iterator[Client]:
    client = Client(stack["api"], f"127.0.1.{next(ADDRESSES)}")
    yield client
    client._session.close()


def fields(answer: Answer, header: str) -> dict[str, dict[str, int]]:
    """A list of items with integer parameters (RFC 9651): name → parameters."""
    text = answer.headers[header]
    assert ", ".join(match[0] for match in ITEM.finditer(text)) == text
    return {
        name: {key: int(value) for key, value in (part.split("=") for part in parameters.strip(";").split(";"))}
        for name, parameters in ITEM.findall(text)
    }


def left(answer: Answer) -> dict[str, int]:
    """Policy → what is left."""
    assert list(fields(answer, "RateLimit")) == list(fields(answer, "RateLimit-Policy"))
    return {name: parameters["r"] for name, parameters in fields(answer, "RateLimit").items()}


def limited(answer: Answer, policy: str) -> bool:
    """Whether it was refused by this policy."""
    if answer.status_code != 429:
        return False
    assert answer.json["code"] == "rate_limited"
    assert policy in answer.json["detail"]
    assert fields(answer, "RateLimit")[policy]["r"] == 0
    assert 1 <= int(answer.headers["Retry-After"]) <= 7200
    return True


def test_the_state_on_every_answer(api, alice):
    answers = [
        (200, api.get("/v1/projects", headers=alice)),
        (404, api.get(f"/v1/projects/{alice.user_id}", headers=alice)),
        (404, api.get("/v1/nothing", headers=alice)),
        (405, api.put("/v1/projects", headers=alice)),
        (422, api.post("/v1/projects", json={}, headers=alice)),
    ]
    for number, (status, answer) in enumerate(answers, start=1):
        assert answer.status_code == status
        assert left(answer) == {"ip": 30 - number, "user": 8 - number, "organization": 12 - number}
        assert fields(answer, "RateLimit-Policy") == {
            "ip": {"q": 30, "w": 3600},
            "user": {"q": 8, "w": 3600},
            "organization": {"q": 12, "w": 3600},
        }
        assert 0 < fields(answer, "RateLimit")["user"]["t"] <= 3600
    assert left(api.get("/v1/projects")) == {"ip": 24, "anonymous": 9}
    assert left(api.get("/v1/nothing")) == {"ip": 23, "anonymous": 8}
    assert left(api.request("OPTIONS", "/v1/projects")) == {"ip": 22}
    assert left(api.get("/health/")) == {"ip": 22}


def test_a_user(api, people, alice):
    statuses = [api.get("/v1/projects", headers=alice).status_code for _ in range(8)]
    refused = api.get("/v1/projects", headers=alice)

    assert statuses == [200] * 8
    assert limited(refused, "user")
    assert left(refused)["organization"] == 4, "what is refused takes nothing from the organization"
    again = people.log_in(alice)
    assert limited(api.get("/v1/projects", headers=again), "user"), "another log-in of the same person"


def test_an_organization(api, alice, dan, mallory):
    assert [api.get("/v1/projects", headers=alice).status_code for _ in range(6)] == [200] * 6
    assert [api.get("/v1/projects", headers=dan).status_code for _ in range(6)] == [200] * 6
    assert limited(api.get("/v1/projects", headers=dan), "organization")
    assert limited(api.get("/v1/projects", headers=alice), "organization")
    assert api.get("/v1/projects", headers=mallory).status_code == 200


def session_of(api: Api, person: Person) -> str:
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=person).json["id"]
    made = api.post("/v1/sessions", json={"project_id": project, "title": "S"}, headers=person)
    return f"/v1/sessions/{made.json['id']}/events"


def test_events_of_an_organization(api, alice, dan, mallory):
    def append(path, number, person, **headers):
        events = {"events": [{"type": "note", "data": number}] * number}
        return api.post(path, json=events, headers={**person, **headers})

    path = session_of(api, alice)
    first = append(path, 4, alice, **{"Idempotency-Key": "once"})
    assert (first.status_code, left(first)["events"]) == (201, 1)
    again = append(path, 4, alice, **{"Idempotency-Key": "once"})
    assert again.headers["Idempotent-Replayed"] == "true"
    assert left(again)["events"] == 1, "what was appended counts once"
    assert left(append(path, 0, dan))["events"] == 1, "what was refused counts not"
    assert append(path, 3, dan).status_code == 201, "as long as one is left"
    refused = append(path, 1, alice)
    assert limited(refused, "events")
    assert api.get(path, headers=alice).json["last_seq"] == 7
    assert append(session_of(api, mallory), 1, mallory).status_code == 201


def test_open_streams_of_an_organization(stack, api, alice, dan, mallory):
    def watch(path: str, person: Person) -> Sse:
        return Sse(f"{api.base}{path.replace('/events', '/stream')}", person)

    path = session_of(api, alice)
    with watch(path, alice) as first, watch(path, dan) as second:
        assert (first.status, second.status) == (200, 200)
        with watch(path, alice) as refused:
            assert (refused.status, refused.problem["code"]) == (429, "rate_limited")
            assert refused.answer_headers["Retry-After"]
            assert 'user"' in refused.answer_headers["RateLimit"]
        with watch(session_of(api, mallory), mallory) as elsewhere:
            assert elsewhere.status == 200
    with valkey.Valkey.from_url(stack["valkey"]) as client:
        wait_until(lambda: not client.hgetall(f"SEATS:{alice.tenant_id}"), what="seats given back")
    with watch(path, dan) as again:
        assert again.status == 200


def test_an_address_before_the_credential(api, elsewhere, people, alice):
    for _ in range(30):
        api.request("OPTIONS", "/v1/projects")
    assert limited(api.get("/v1/projects"), "ip"), "429 before 401"
    refused = api.get("/v1/projects", headers=alice)
    assert limited(refused, "ip")
    assert left(refused)["user"] == 8, "a refused request takes nothing from the user"
    assert api.get("/v1/nothing").status_code == 404, "404 comes first"
    assert api.put("/v1/projects").status_code == 405
    assert api.get("/health/").status_code == 200
    assert elsewhere.get("/v1/projects", headers=alice).status_code == 200


def test_without_a_valid_token(api, elsewhere, alice):
    assert [api.get("/v1/projects").status_code for _ in range(5)] == [401] * 5
    bad = {"Authorization": "Bearer x"}
    assert [api.get("/v1/projects", headers=bad).status_code for _ in range(5)] == [401] * 5
    assert limited(api.get("/v1/projects", headers=bad), "anonymous")
    assert limited(log_in(api, alice.email, PASSWORD), "anonymous"), "the right password too"
    assert api.get("/v1/projects", headers=alice).status_code == 200, "a valid token is not anonymous"
    assert elsewhere.get("/v1/projects").status_code == 401


@pytest.mark.parametrize("path", ["/health/", "/docs/errors/not_found", "/v1/openapi.json", "/.well-known/jwks.json"])
def test_what_everybody_may_read(api, path):
    for _ in range(11):
        answer = api.get(path)
        assert answer.status_code == 200
        assert "anonymous" not in left(answer)
    assert left(api.get("/v1/projects"))["anonymous"] == 9


def test_a_log_in_counts_only_when_it_fails(api, alice):
    for _ in range(5):
        answer = log_in(api, alice.email, PASSWORD)
        assert (answer.status_code, left(answer)["anonymous"]) == (200, 10)
    for number in range(3):
        renewed = refresh(api, answer.json["refresh_token"])
        assert (renewed.status_code, left(renewed)["anonymous"]) == (200, 10 - 2 * number)
        answer = renewed
        wrong = log_in(api, f"nobody-{number}@example.org", "wrong password 12")
        assert (wrong.status_code, left(wrong)["anonymous"]) == (401, 9 - 2 * number)
        assert left(refresh(api, "x"))["anonymous"] == 8 - 2 * number
    assert log_in(api, alice.email, PASSWORD).status_code == 200


def test_a_registration_counts(api):
    body = {"email": f"{uuid.uuid4()}@example.org", "password": PASSWORD}
    answer = api.post("/v1/auth/register", json={**body, "display_name": "N", "organization_name": "O"})
    assert (answer.status_code, left(answer)["anonymous"]) == (202, 9)


def test_headers_of_the_client_change_nothing(api):
    for number in range(10):
        forged = {name: f"6.6.6.{number}" for name in ("X-Forwarded-For", "X-Client-Ip", "X-Real-Ip", "Forwarded")}
        assert left(api.get("/v1/projects", headers=forged))["anonymous"] == 9 - number
    assert limited(api.get("/v1/projects", headers={"X-Client-Ip": "6.6.6.11"}), "anonymous")


def test_an_api_key(stack, api, alice):
    made = api.post(
        "/v1/api-keys",
        json={"name": "robot", "permissions": ["project.view"]},
        headers=alice,
    )
    robot = {"Authorization": f"Bearer {made.json['key']}"}
    statuses = [api.get("/v1/projects", headers=robot).status_code for _ in range(8)]
    assert statuses == [200] * 8
    refused = api.get("/v1/projects", headers=robot)
    assert limited(refused, "user"), "a key has a count of its own"
    assert left(refused)["organization"] <= 12 - 1 - 7, "and counts for its organization"
    assert left(api.get("/v1/projects", headers=alice))["user"] == 6


def test_a_key_that_is_none_is_no_valid_token(api, elsewhere, alice):
    from common.apikeys import new_key

    for number in range(10):
        answer = api.get("/v1/projects", headers={"Authorization": f"Bearer {new_key()[0]}"})
        assert (answer.status_code, left(answer)["anonymous"]) == (401, 9 - number)
    assert limited(api.get("/v1/projects", headers={"Authorization": f"Bearer {new_key()[0]}"}), "anonymous")


def test_a_key_that_is_none_opens_no_second_count(api, elsewhere):
    from common.apikeys import new_key

    for number in range(10):
        headers = {"Authorization": f"Bearer {new_key()[0]}"}
        answer = api.post("/v1/auth/password/forgot", headers=headers, json={"email": "nobody@example.org"})
        assert (answer.status_code, left(answer).get("anonymous")) == (202, 9 - number)
    headers = {"Authorization": f"Bearer {new_key()[0]}"}
    assert limited(
        api.post("/v1/auth/password/forgot", headers=headers, json={"email": "nobody@example.org"}), "anonymous"
    )


def test_an_address_of_ipv6_is_a_network(stack):
    layout = Layout.load(Path(stack["path"]).parent / "layout.json")
    edge = layout.path("secrets", "edge-key", "latest").read_text().strip()
    projects = f"http://127.0.0.1:{layout.ports['function:projects']}/v1/projects"

    def ask(address: str) -> Answer:
        return Answer(requests.get(projects, headers={"X-Edge-Key": edge, "X-Client-Ip": address}, timeout=10))

    assert left(ask("2001:db8:1:2::1"))["ip"] == 29
    assert left(ask("2001:db8:1:2:ffff:ffff:ffff:ffff"))["ip"] == 28
    assert left(ask("2001:db8:1:3::1"))["ip"] == 29
    assert left(ask("203.0.113.9"))["ip"] == 29
    assert left(ask("::ffff:203.0.113.9"))["ip"] == 28
    assert left(ask("203.0.113.10"))["ip"] == 29


def test_all_at_once_none_too_many(stack, api, alice):
    def ask(_: int) -> int:
        client = Client(stack["api"], api.address)
        status = client.get("/v1/projects", headers=alice).status_code
        client._session.close()
        return status

    with ThreadPoolExecutor(24) as pool:
        statuses = list(pool.map(ask, range(24)))
    assert sorted(statuses) == [200] * 8 + [429] * 16


def test_the_counters_are_the_library_s_own(stack, api, alice):
    for _ in range(3):
        answer = api.get("/v1/projects", headers=alice)
    storage = storage_from_string(stack["valkey"].replace("redis://", "valkey://"))
    stats = SlidingWindowCounterRateLimiter(storage).get_window_stats(parse("8/hour"), "user", alice.user_id)
    assert stats.remaining == left(answer)["user"] == 5


def test_flushing_valkey_loses_counters_and_nothing_else(stack, api, alice):
    for _ in range(8):
        api.get("/v1/projects", headers=alice)
    assert limited(api.get("/v1/projects", headers=alice), "user")
    with valkey.Valkey.from_url(stack["valkey"]) as client:
        client.flushall()
        client.script_flush()
    answer = api.get("/v1/projects", headers=alice)
    assert (answer.status_code, left(answer)["user"]) == (200, 7)


def pids(stack: dict[str, Any]) -> dict[str, int]:
    """The running services: one that was killed is not among them until it is back."""
    found: dict[str, int] = json.loads(Path(stack["path"]).read_text())["pids"]
    return found


def log_of(stack: dict[str, Any], service: str, text: str) -> int:
    return (Path(stack["path"]).parent / "log" / f"{service}.log").read_text().count(text)


def test_a_valkey_that_hangs_delays_nobody_for_long(stack, api, people):
    persons = [people.create() for _ in range(4)]
    pid = pid_of(stack, "valkey")
    api.get("/v1/projects", headers=persons[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        for number in range(20):
            answer = api.get("/v1/projects", headers=persons[number % 4])
            assert answer.status_code == 200
            assert left(answer) == {"ip": 30, "user": 8, "organization": 12}, "open: everything is left"
        assert time.monotonic() - began < 3
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: left(api.get("/v1/projects", headers=persons[0]))["ip"] < 30, what="counting again")


def test_a_valkey_that_is_killed_stops_nobody(stack, api, elsewhere, people, alice):
    told = log_of(stack, "projects", "no rate limits")
    dead = pid_of(stack, "valkey")
    os.kill(dead, signal.SIGKILL)
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        assert api.get("/v1/projects", headers=people.log_in(alice)).status_code in {200, 429}
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1.5
    assert log_in(elsewhere, alice.email, PASSWORD).status_code == 200
    wait_until(lambda: pids(stack).get("valkey", dead) != dead, 20, "a new Valkey")
    person = people.create()
    wait_until(lambda: left(elsewhere.get("/v1/projects", headers=person))["user"] < 8, what="counting again")
    wait_until(lambda: log_of(stack, "projects", "rate limits count again") >= 1, what="a line in the log")
    assert log_of(stack, "projects", "no rate limits") - told <= 2, "said once, not for each request"


@pytest.fixture
def script(stack: dict[str, Any]) -> Any:
    with valkey.Valkey.from_url(stack["valkey"]) as client:
        registered = client.register_script(SCRIPT)
        yield lambda keys, arguments: [int(number) for number in registered(keys, arguments).split()]


def test_after_retry_after_and_not_before(script):
    """Three in 600 ms, whatever the windows are when it begins: refused until the wait is over, then let through."""
    keys = [f"{{{uuid.uuid4()}}}/-1", f"{{{uuid.uuid4()}}}"]
    take = [3, 600, 1, 1]
    for _ in range(3):
        answer = next(told for told in (script(keys, take) for _ in range(9)) if told[0])
        refused_at, wait = time.monotonic(), answer[2] / 1000
        assert 0 < wait <= 1.2
        while script(keys, take)[0] and time.monotonic() < refused_at + 2:
            pass
        assert -0.02 < time.monotonic() - refused_at - wait < 1


def test_the_library_decides_the_same(stack, script):
    """The same random requests, counted by the library's own strategy and by our script."""
    storage = storage_from_string(stack["valkey"].replace("redis://", "valkey://"))
    item, strategy = RateLimitItemPerSecond(5), SlidingWindowCounterRateLimiter(storage)
    theirs, ours = uuid.uuid4().hex, uuid.uuid4().hex
    keys = [f"{{{ours}}}/-1", f"{{{ours}}}"]
    choice, passed = random.Random(7), [0, 0]  # noqa: S311 - a schedule, not a secret
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        passed[0] += strategy.hit(item, theirs)
        passed[1] += script(keys, [5, 1000, 1, 1])[0] == 0
        until = time.monotonic() + choice.random() * 0.2
        wait_until(lambda until=until: time.monotonic() > until)
    assert passed[0] > 15
    assert abs(passed[0] - passed[1]) <= 2


def test_a_setting_that_is_no_rate_stops_the_process(stack):
    from tests.common.test_processes import start_alone

    assert "RATE_" in start_alone(stack, RATE_USER="a lot")


@pytest.fixture
def people(stack: dict[str, Any]) -> Iterator[People]:
    with database(stack["postgres"]["admin"]) as connection:
        yield People(stack, connection)


@pytest.fixture
def alice(people: People) -> Person:
    return people.create("owner", password=PASSWORD)


@pytest.fixture
def dan(people: People, alice: Person) -> Person:
    return people.create("developer", alice.tenant_id)


@pytest.fixture
def mallory(people: People) -> Person:
    return people.create("owner")


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [("100/hour", 100, 3600), ("5 per 15 minutes", 5, 900), ("3/2 days", 3, 172_800), (" 7/SECOND ", 7, 1)],
)
def test_a_setting_is_read_as_the_library_reads_it(text, amount, seconds):
    ours, theirs = our_parse(text), parse(text)

    assert (ours.amount, ours.seconds) == (amount, seconds) == (theirs.amount, theirs.get_expiry())
    assert theirs.key_for("user", "she") == f"LIMITER/user/she/{ours.amount}/{ours.multiple}/{ours.unit}"


@pytest.mark.parametrize(
    "text", ["", "100", "0/hour", "5/0 hours", "-1/hour", "1.5/hour", "10/fortnight", "1/hour;2/day"]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="not a number per time"):
        our_parse(text)
