"""Numbers without gaps: whoever appends, however many at once, whatever is refused, and when it closes meanwhile."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Api, Person, wait_until
from tests.sessions.conftest import Room, new_room

WRITERS, BATCHES = 8, 15
ENOUGH = 1000  # appends until one should have met the closing
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "\x00" not in str(value))


def in_threads(count: int, work: Callable[[int], list[Any]]) -> list[Any]:
    """What each thread found; they start together."""
    together = threading.Barrier(count)

    def run(number: int) -> list[Any]:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return [found for each in pool.map(run, range(count)) for found in each]


def whole_log(room: Room) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = room.get(f"/events?limit=100&after={len(found)}").json
        found += page["items"]
        if len(found) >= page["last_seq"] or not page["items"]:
            return found


def test_many_writers_at_once(stack, alice: Person, dan: Person, room: Room) -> None:
    """Each batch is whole and in order, refused ones between them take no number, and times rise with numbers."""

    def write(writer: int) -> list[Any]:
        chance = Random(writer)  # noqa: S311 - the same each time
        mine = Room(Api(stack["api"]), alice if writer % 2 else dan, room.project_id, room.id)
        told = []
        for batch in range(BATCHES):
            data = [[writer, batch, place] for place in range(chance.randint(1, 5))]
            if chance.random() < 0.2:
                assert mine.post([{"type": "said", "data": each} for each in data] + [{"type": ""}]).status_code == 422
            told.append((mine.say(*data), data))
        return told

    told = in_threads(WRITERS, write)

    log = whole_log(room)
    assert [event["seq"] for event in log] == list(range(1, sum(len(data) for _, data in told) + 1))
    for first, data in told:
        assert [event["data"] for event in log[first - 1 : first - 1 + len(data)]] == data
    assert [event["created_at"] for event in log] == sorted(event["created_at"] for event in log)
    assert all(event["created_by"] == (alice if event["data"][0] % 2 else dan).user_id for event in log)


def test_nothing_comes_behind_the_end(stack, alice: Person, room: Room) -> None:
    """Appends that meet a closing are either in the log that it closes, or refused."""

    def work(number: int) -> list[Any]:
        mine = Room(Api(stack["api"]), alice, room.project_id, room.id)
        if number == 0:
            wait_until(lambda: mine.get().json["last_event_at"], what="the first event")
            return [("closed", mine.patch({"status": "closed"}))]
        found: list[Any] = []
        while len(found) < ENOUGH and (not found or found[-1][1].status_code == 201):
            found.append(("append", mine.post([{"type": "said", "data": number}])))
        return found

    answers = in_threads(4, work)

    assert [answer.status_code for kind, answer in answers if kind == "closed"] == [200]
    appended = sorted(answer.json["first_seq"] for kind, answer in answers if answer.status_code == 201)
    assert {answer.json["code"] for kind, answer in answers if answer.status_code >= 400} == {"session_closed"}
    log = whole_log(room)
    assert [event["seq"] for event in log] == appended == list(range(1, len(log) + 1))
    assert max(event["created_at"] for event in log) <= room.get().json["closed_at"]


@pytest.fixture(scope="module")
def play(stack):
    """One client for all examples of the test below."""
    client = Api(stack["api"])
    yield client
    client._session.close()


@given(
    batches=st.lists(
        st.tuples(st.sampled_from(["said", "refused", "stale"]), st.lists(JSON, min_size=1, max_size=4)), max_size=6
    )
)
@settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_the_log_is_what_was_said(play: Api, alice: Person, project: str, batches) -> None:
    room = new_room(play, alice, project)
    expected: list[Any] = []
    for kind, data in batches:
        if kind == "said":
            assert room.say(*data) == len(expected) + 1
            expected += data
        elif kind == "refused":
            good = [{"type": "said", "data": each} for each in data]
            assert room.post([*good, {"type": "said"}]).status_code == 422
        else:
            assert room.patch({"status": "closed"}, {"If-Match": '"9"'}).status_code == 412

    assert [(event["seq"], event["data"]) for event in whole_log(room)] == list(enumerate(expected, 1))
