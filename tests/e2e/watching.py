"""Writers and watchers of a session who never give up: what they saw is compared with what was written."""

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.conftest import Api, Person, wait_until
from tests.sessions.clients import Over, Sse, WebSocket

LOST_SECONDS = 40  # after which a request or stream that cannot be had is a failure
PAUSE_SECONDS = 0.03
AGAIN = {"idempotency_in_progress", "unavailable"}


@dataclass
class Writer:
    """Appends batches until it is told to stop, each with a key of its own, and again until it is answered."""

    path: str
    api: Api
    person: Person
    name: str
    told: list[tuple[int, int, list[int]]] = field(default_factory=list)  # first and last seq, what was sent
    refused: int = 0
    trouble: str = ""

    def run(self, enough: threading.Event) -> None:
        count = itertools.count()
        for size in itertools.cycle((1, 3, 2)):
            if enough.wait(PAUSE_SECONDS) or self.trouble:
                return
            numbers = [next(count) for _ in range(size)]
            events = [{"type": "said", "data": {"by": self.name, "number": number}} for number in numbers]
            answer = self.append(events)
            if answer is not None:
                self.told.append((answer["first_seq"], answer["last_seq"], numbers))

    def append(self, events: list[Any]) -> Any:
        """The answer to one batch; None, and the trouble, when there is none in time."""
        headers = {**self.person, "Idempotency-Key": str(uuid.uuid4())}
        deadline = time.monotonic() + LOST_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = self.api.post(f"{self.path}/events", json={"events": events}, headers=headers)
            except requests.ConnectionError:
                self.refused += 1
                continue
            if answer.status_code == 201:
                return answer.json
            self.refused += 1
            if answer.json.get("code") not in AGAIN:
                break
            time.sleep(PAUSE_SECONDS)
        self.trouble = f"{self.name}: not appended: {answer.status_code} {answer.text}"
        return None


@dataclass
class Watcher:
    """Watches from the first event on; comes back behind the last one it has whenever it is cut."""

    url: str
    person: Person
    kind: str
    seen: list[Any] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    connections: int = 0
    is_open: bool = False
    goal: int | None = None
    trouble: str = ""

    def run(self) -> None:
        deadline = time.monotonic() + LOST_SECONDS
        while not self.done:
            before = len(self.seen)
            try:
                self._watch()
            except (OSError, Over) as error:
                reason = error.reason if isinstance(error, Over) else ""
                self.ends.append(reason or "lost")
            finally:
                self.is_open = False
            if len(self.seen) > before:
                deadline = time.monotonic() + LOST_SECONDS
            if time.monotonic() > deadline:
                self.trouble = f"{self.kind}: nothing more behind {before}, ends {self.ends[-5:]}"
                return

    @property
    def done(self) -> bool:
        return self.goal is not None and len(self.seen) >= self.goal

    def _watch(self) -> None:
        after = str(self.seen[-1]["seq"] if self.seen else 0)
        if self.kind == "sse":
            self._events({**self.person, "Last-Event-ID": after})
        else:
            self._messages(after)

    def _opened(self, status: int) -> None:
        if status not in (200, 101):
            time.sleep(PAUSE_SECONDS)
            raise Over(reason=str(status))
        self.connections += 1
        self.is_open = True

    def _events(self, headers: dict[str, str]) -> None:
        with Sse(f"{self.url}/stream", headers) as stream:
            self._opened(stream.status)
            while not self.done:
                event = stream.next(LOST_SECONDS)
                if event.name == "end":
                    raise Over(reason=event.json["code"])
                self.seen.append(event.json)

    def _messages(self, after: str) -> None:
        with WebSocket(f"{self.url}/ws?after={after}", self.person) as connection:
            self._opened(connection.status)
            while not self.done:
                self.seen.append(connection.next(LOST_SECONDS))


@dataclass
class Speaker:
    """Appends by WebSocket, a few messages at a time. What has not come back when the connection ends in good order is
    said again, unless it shows before the next thing said: the order of a session decides, no clock.
    """

    url: str
    person: Person
    name: str
    said: int = 0
    behind: int = 0  # the last event seen
    unsure: set[int] = field(default_factory=set)
    ends: list[str] = field(default_factory=list)
    trouble: str = ""

    def run(self, enough: threading.Event) -> None:
        deadline = time.monotonic() + LOST_SECONDS
        while not self.trouble and (self.unsure or not enough.is_set()):
            before = self.said
            try:
                self._speak(enough)
            except (OSError, Over) as error:
                self.ends.append(error.reason if isinstance(error, Over) and error.reason else "lost")
            if self.said > before:
                deadline = time.monotonic() + LOST_SECONDS
            elif time.monotonic() > deadline:
                self.trouble = f"{self.name}: not heard, ends {self.ends[-5:]}"

    def _speak(self, enough: threading.Event) -> None:
        with WebSocket(f"{self.url}/ws?after={self.behind}", self.person) as connection:
            if connection.status != 101:
                time.sleep(PAUSE_SECONDS)
                raise Over(reason=str(connection.status))
            before = set(self.unsure)
            self._hear(connection, self._say(connection))
            for number in before & self.unsure:
                self._say(connection, number)
            while self.unsure or not enough.wait(PAUSE_SECONDS):
                while self.unsure:
                    self._hear(connection, next(iter(self.unsure)))
                if not enough.is_set():
                    for _ in range(4):
                        self._say(connection)

    def _say(self, connection: WebSocket, number: int | None = None) -> int:
        if number is None:
            number, self.said = self.said, self.said + 1
        self.unsure.add(number)
        connection.send({"type": "said", "data": {"by": self.name, "number": number}})
        return number

    def _hear(self, connection: WebSocket, wanted: int) -> None:
        """Take note of what this speaker hears of itself, until this number comes back."""
        while wanted in self.unsure:
            event = connection.next(LOST_SECONDS)
            if "problem" in event:
                self.trouble = f"{self.name}: {event}"
                raise Over(reason="refused")
            self.behind = event["seq"]
            if event["type"] == "said" and event["data"]["by"] == self.name:
                self.unsure.discard(event["data"]["number"])


class Crowd:
    """A session with people who write into it and people who watch it, in threads."""

    def __init__(self, api: Api, person: Person, speakers: int = 0) -> None:
        project = api.post("/v1/projects", json={"name": f"Of {uuid.uuid4()}"}, headers=person)
        body = {"project_id": project.json["id"], "title": "A crowd"}
        made = api.post("/v1/sessions", json=body, headers=person)
        assert made.status_code == 201, made.text
        self.path = f"/v1/sessions/{made.json['id']}"
        self.api, self.person = api, person
        self.writers = [Writer(self.path, Api(api.base), person, f"writer {number}") for number in range(2)]
        kinds = ("sse", "ws", "sse", "ws", "sse", "ws")
        self.watchers = [Watcher(api.base + self.path, person, kind) for kind in kinds]
        self.speakers = [Speaker(api.base + self.path, person, f"speaker {number}") for number in range(speakers)]
        self._enough = threading.Event()
        self._writing = [_thread(writer.run, self._enough) for writer in self.writers]
        self._writing += [_thread(speaker.run, self._enough) for speaker in self.speakers]
        self._watching = [_thread(each.run) for each in self.watchers]

    def __enter__(self) -> "Crowd":
        for thread in (*self._writing, *self._watching):
            thread.start()
        self.settle()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._enough.set()

    @property
    def written(self) -> int:
        """How many batches have been answered."""
        return sum(len(writer.told) for writer in self.writers)

    def settle(self, batches: int = 20) -> None:
        """Wait until everybody watches and so much more has been written."""
        goal = self.written + batches
        wait_until(lambda: self.written >= goal or self.troubles(), LOST_SECONDS + 5, "writing")
        wait_until(lambda: all(each.is_open for each in self.watchers) or self.troubles(), LOST_SECONDS + 5, "watching")
        assert self.troubles() == []

    def troubles(self) -> list[str]:
        """What anybody complains of."""
        found = [each.trouble for each in self.writers] + [each.trouble for each in self.speakers]
        found += [each.trouble for each in self.watchers]
        return [trouble for trouble in found if trouble]

    def end(self) -> None:
        """The writers stop; a last event tells the watchers that this was all."""
        self._enough.set()
        for thread in self._writing:
            thread.join(LOST_SECONDS)
        last = self.writers[0].append([{"type": "last", "data": None}])
        for watcher in self.watchers:
            watcher.goal = last["last_seq"]
        self.writers[0].append([{"type": "over", "data": None}])  # wakes whoever had seen the last one already
        for thread in self._watching:
            thread.join(LOST_SECONDS)
        assert self.troubles() == []

    def check(self) -> None:
        """Every watcher saw every event once and in order; the numbers have no hole; each batch is what was sent."""
        shown = self.everything()
        last = self.watchers[0].goal
        assert last is not None
        assert [event["seq"] for event in shown] == list(range(1, len(shown) + 1))
        for watcher in self.watchers:
            assert watcher.seen[:last] == shown[:last], watcher.kind
            assert len(watcher.seen) - last in (0, 1)
        for writer in self.writers:
            for first, to, numbers in writer.told:
                found = [event["data"] for event in shown[first - 1 : to]]
                assert found == [{"by": writer.name, "number": number} for number in numbers]
        said = [(event["data"]["by"], event["data"]["number"]) for event in shown if event["type"] == "said"]
        sent = [(writer.name, number) for writer in self.writers for _, _, numbers in writer.told for number in numbers]
        sent += [(speaker.name, number) for speaker in self.speakers for number in range(speaker.said)]
        assert Counter(said) == Counter(sent)

    def everything(self) -> list[Any]:
        """The session as GET …/events lists it."""
        found: list[Any] = []
        while True:
            after = found[-1]["seq"] if found else 0
            page = self.api.get(f"{self.path}/events?after={after}&limit=100", headers=self.person).json["items"]
            if not page:
                return found
            found += [{name: event[name] for name in ("seq", "type", "data")} for event in page]


def _thread(run: Callable[..., None], *given: object) -> threading.Thread:
    return threading.Thread(target=run, args=given, daemon=True)
