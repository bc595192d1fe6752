"""The watcher by itself: whom it cuts, whom it asks about, and what it does when the database is silent."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from common import errors
from common.settings import settings
from common.tokens import Claim
from sessions import watch, watch_queries
from sessions.hub import Hub
from sessions.outcomes import Opening, Place
from sessions.topic import Reader
from sessions.watch import Watch
from sessions.watch_queries import Access, Change, Look, Moved

HERE, ELSEWHERE = Place("here", "session-1"), Place("elsewhere", "session-2")


class Database:
    """Answers a watcher's questions as PostgreSQL would: what changed, and who is refused."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.moved: list[Moved] = []
        self.everybody = False
        self.refused: dict[Claim, str] = {}
        self.ends: dict[Claim, float] = {}
        self.silent = False
        self.mute = False  # looks are answered, questions are not
        self.looks: list[tuple[str | None, int, int]] = []
        self.questions: list[int] = []

    async def ask(self, function: Callable[..., Any], *given: Any) -> Any:
        """The watcher's own thread."""
        await asyncio.sleep(0)
        if self.silent:
            raise errors.Problem("unavailable")
        if function is watch_queries.look:
            seen, tips, claims = given
            self.looks.append((seen, len(tips), len(claims)))
            changes, self.changes = self.changes, []
            return Look(str(len(self.looks)), self.everybody, changes, self.moved, self.access(claims))
        if self.mute:
            raise errors.Problem("unavailable")
        self.questions.append(len(given[0]))
        return self.access(given[0])

    def access(self, claims: Sequence[Claim]) -> list[Access]:
        return [Access(self.refused.get(claim), self.ends.get(claim)) for claim in claims]


class Fan:
    """The way to other replicas; it works."""

    up = True

    def follow(self, place: Place) -> None: ...
    def leave(self, place: Place) -> None: ...
    def tell(self, place: Place, first_seq: int, events: Sequence[bytes]) -> None: ...
    def tell_end(self, place: Place, code: str) -> None: ...


class World:
    """A hub whose database and denylist are here."""

    def __init__(self) -> None:
        async def read(_claim: Claim, _place: Place, after: int) -> tuple[int, list[bytes]]:
            return after + 1, []

        self.database = Database()
        self.hub = Hub(read)
        self.fan = self.hub.fan = Fan()
        self.denied: list[str] = []
        self.watch = Watch(self.hub, self.database.ask, self.run)

    async def run(self, function: Callable[..., Any], *given: Any) -> Any:
        """A thread of the requests."""
        if function is watch_queries.close_idle:
            return []
        self.denied += given[0]
        return True

    def open(self, place: Place = HERE, claim: Claim | None = None, expires_at: float | None = None) -> Reader:
        claim = claim or Claim("u", place.tenant_id, str(uuid.uuid4()), str(uuid.uuid4()))
        opening = Opening(place, claim, after=0, tip=0, closed=False, expires_at=expires_at)
        return self.hub.join(opening, lambda: None)

    async def watched(self, looks: int = 1) -> None:
        """Let the watcher look so often."""
        task = asyncio.ensure_future(self.watch.run())
        before = len(self.database.looks)
        async with asyncio.timeout(20):
            while len(self.database.looks) < before + looks and not task.done():
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def cut(reader: Reader) -> None:
    """Wait until the stream is to end."""
    async with asyncio.timeout(20):
        while reader.code is None:
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It looks without a pause, and may write logs."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.0)
    for name in ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "unused")
    settings.cache_clear()
    yield
    settings.cache_clear()


def in_world(test: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(World())

    asyncio.run(run())


def test_a_new_stream_is_asked_about_at_once_and_then_once_a_minute() -> None:
    """A change between the answer that opened it and its entry into the hub would be missed otherwise."""

    async def test(world: World) -> None:
        world.database.refused[(refused := world.open()).claim] = "invalid_token"
        goes_on = world.open()

        await world.watched(3)

        assert [asked for _, _, asked in world.database.looks[:3]] == [2, 0, 0]
        assert (refused.code, goes_on.code) == ("invalid_token", None)
        now = asyncio.get_running_loop().time()
        assert 0 < goes_on.due - now <= watch.RENEW_SECONDS

    in_world(test)


def test_a_change_concerns_its_organization_or_its_credential() -> None:
    async def test(world: World) -> None:
        here, other, logged_out = world.open(), world.open(), world.open(ELSEWHERE)
        untouched = world.open(ELSEWHERE)
        await world.watched()
        world.database.refused = {here.claim: "permission_denied", untouched.claim: "invalid_token"}
        world.database.refused[logged_out.claim] = "invalid_token"

        world.database.changes = [
            Change("here", None, False),
            Change(None, logged_out.claim.login_session_id, True),
            Change("nobody's", None, False),
        ]
        await world.watched()

        assert [each.code for each in (here, other, logged_out)] == ["permission_denied", None, "invalid_token"]
        assert untouched.code is None  # nobody has said anything about her
        assert world.database.questions == [3]
        assert world.denied == [logged_out.claim.login_session_id]

    in_world(test)


def test_the_streams_of_one_credential_are_one_question() -> None:
    async def test(world: World) -> None:
        first = world.open()
        more = [world.open(claim=first.claim) for _ in range(5)]
        world.database.refused[first.claim] = "organization_suspended"

        await world.watched()

        assert world.database.looks[0][2] == 1
        assert {each.code for each in (first, *more)} == {"organization_suspended"}

    in_world(test)


def test_whoever_is_asked_about_after_a_change_is_asked_in_few_questions() -> None:
    async def test(world: World) -> None:
        readers = [world.open() for _ in range(1200)]
        await world.watched(4)
        assert [asked for _, _, asked in world.database.looks[:4]] == [500, 500, 200, 0]
        world.database.refused = {reader.claim: "permission_denied" for reader in readers}

        world.database.changes = [Change("here", None, False)]
        await world.watched()

        assert world.database.questions == [1, 500, 500, 200]
        assert {reader.code for reader in readers} == {"permission_denied"}

    in_world(test)


def test_one_answer_settles_a_suspended_organization() -> None:
    async def test(world: World) -> None:
        readers, other = [world.open() for _ in range(1000)], [world.open(ELSEWHERE) for _ in range(3)]
        await world.watched(4)
        world.database.refused = {reader.claim: "organization_suspended" for reader in readers}

        world.database.changes = [Change("here", None, False), Change("elsewhere", None, False)]
        await world.watched()

        assert world.database.questions == [2, 3]
        assert {reader.code for reader in readers} == {"organization_suspended"}
        assert {reader.code for reader in other} == {None}

    in_world(test)


@pytest.mark.parametrize("how", ["change", "too many"])
def test_what_concerns_everybody(how: str) -> None:
    async def test(world: World) -> None:
        readers = [world.open(), world.open(ELSEWHERE)]
        await world.watched()
        world.database.refused = {reader.claim: "permission_denied" for reader in readers}

        if how == "change":
            world.database.changes = [Change(None, None, False)]
        else:
            world.database.everybody = True
        await world.watched()

        assert {reader.code for reader in readers} == {"permission_denied"}

    in_world(test)


def test_a_token_that_expires_ends_its_stream_and_so_does_its_log_in() -> None:
    async def test(world: World) -> None:
        expired, later = world.open(expires_at=time.time() - 0.1), world.open(expires_at=time.time() + 900)
        by_login, by_key = world.open(expires_at=time.time() + 900), world.open()
        world.database.ends = {by_login.claim: time.time() - 0.1, by_key.claim: time.time() - 0.1}

        await world.watched(3)

        assert [each.code for each in (expired, by_login, by_key)] == ["invalid_token"] * 3
        assert later.code is None

    in_world(test)


def test_after_a_look_that_failed_everybody_is_asked_about() -> None:
    """It may be another server that answers now, without the last commits of the one before."""

    async def test(world: World) -> None:
        reader = world.open()
        await world.watched()
        world.database.refused[reader.claim] = "invalid_token"
        world.database.silent = True
        task = asyncio.ensure_future(world.watch.run())
        for _ in range(50):
            await asyncio.sleep(0)
        went_on = reader.code is None

        world.database.silent = False
        await cut(reader)
        task.cancel()

        assert went_on
        assert reader.code == "invalid_token"

    in_world(test)


def test_a_change_whose_question_fails_is_not_forgotten() -> None:
    async def test(world: World) -> None:
        reader = world.open()
        await world.watched()
        world.database.refused[reader.claim] = "invalid_token"
        world.database.mute = True
        world.database.changes = [Change("here", None, False)]
        await world.watched(3)
        went_on = reader.code is None

        world.database.mute = False
        await world.watched(3)

        assert went_on
        assert reader.code == "invalid_token"

    in_world(test)


def test_without_any_look_for_too_long_every_stream_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        reader = world.open()
        await world.watched()
        world.database.silent = True
        monkeypatch.setattr(watch, "TRUTH_SECONDS", 0.05)
        task = asyncio.ensure_future(world.watch.run())
        await cut(reader)
        assert not task.done()
        task.cancel()

        assert reader.code == "unavailable"

    in_world(test)


def test_sessions_that_moved_are_told_to_the_hub() -> None:
    async def test(world: World) -> None:
        gone, closed = world.open(), world.open(ELSEWHERE)
        world.database.moved = [Moved(HERE, None, True), Moved(ELSEWHERE, 0, True)]

        await world.watched(2)
        await cut(closed)

        assert (gone.code, closed.code) == ("not_found", "session_closed")

    in_world(test)


def test_the_sessions_are_asked_about_at_each_look_while_other_replicas_cannot_tell() -> None:
    async def test(world: World) -> None:
        world.open()
        await world.watched(12)
        assert [sessions for _, sessions, _ in world.database.looks[:12]] == [0, 0, 0, 0, 0, 1] * 2

        world.fan.up = False
        before = len(world.database.looks)
        await world.watched(2)
        assert [sessions for _, sessions, _ in world.database.looks[before : before + 2]] == [1, 1]

    in_world(test)
