"""The watcher of a replica: cuts streams whose access has ended, and tells the hub what was not told to it.

It looks at the database twice a second: docs/decisions/0022-revocation-by-a-feed.md. A change of access says only "look
again"; whether a stream goes on is asked of app.credential, as every request asks it. What a look may have missed is
found by asking for each reader anew once a minute; without any look for half a minute nobody goes on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from secrets import SystemRandom
from typing import Any

from common import denylist, errors, log
from common.tokens import Claim
from sessions import watch_queries
from sessions.hub import Hub
from sessions.topic import Reader
from sessions.watch_queries import Access, Look

POLL_SECONDS = 0.5
TIPS_EVERY = 6  # looks, while the other replicas tell by themselves
RENEW_SECONDS = 60  # how long an answer of the database about a reader holds without a change
TRUTH_SECONDS = 30  # without any answer of the database all streams end
AT_ONCE = 500  # claims per question
SWEEP_SECONDS = 5
SWEPT = 50  # idle sessions that are closed in one transaction
OVER, SUSPENDED = "invalid_token", "organization_suspended"
JITTER = SystemRandom()  # replicas take turns, and so do the streams of one

Run = Callable[..., Awaitable[Any]]


class Watch:
    """`look` runs a function in the watcher's own thread, `run` in one of those of the requests."""

    def __init__(self, hub: Hub, look: Run, run: Run) -> None:
        self.hub = hub
        self._look, self._run = look, run
        self._seen: str | None = None
        self._looks = 0
        self._truth_at = 0.0
        self._denying: set[asyncio.Task[None]] = set()
        self._doubt = False  # a look has failed: what was committed meanwhile may have been another server's

    async def run(self) -> None:
        """Watch for as long as the replica lives."""
        loop = asyncio.get_running_loop()
        self._truth_at = loop.time()
        looking: asyncio.Task[None] | None = None
        sweeping = asyncio.create_task(self._sweep())
        try:
            while True:
                began = loop.time()
                due = self._survey(began)
                if looking is None or looking.done():
                    self._heed(looking)
                    looking = asyncio.create_task(self._once(due))
                await asyncio.sleep(max(0.0, began + POLL_SECONDS - loop.time()))
        finally:
            sweeping.cancel()
            if looking is not None:
                looking.cancel()

    def _survey(self, now: float) -> dict[Claim, list[Reader]]:
        """Whom to ask the database about. Cuts whose token has expired, and everybody after too long a silence."""
        clock = time.time()
        silent = now - self._truth_at > TRUTH_SECONDS
        due: dict[Claim, list[Reader]] = {}
        for reader in self.hub.readers():
            if reader.expires_at is not None and reader.expires_at <= clock:
                reader.cut(OVER)
            elif silent:
                reader.cut("unavailable")
            elif reader.code is None and reader.due <= now and (reader.claim in due or len(due) < AT_ONCE):
                due.setdefault(reader.claim, []).append(reader)
        return due

    def _heed(self, looked: "asyncio.Task[Any] | None") -> None:
        """A look that failed does not end the watch: it is repeated, and in the end the streams are cut."""
        error = None if looked is None or looked.cancelled() else looked.exception()
        if isinstance(error, Exception):
            self._doubt = True
            log.entry("ERROR", "the watcher could not look at the database", error=type(error).__name__)

    async def _once(self, asked: dict[Claim, list[Reader]]) -> None:
        """One look, and what follows from it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._looks += 1
        fan = self.hub.fan
        tips = []
        if fan is None or not fan.up or self._looks % TIPS_EVERY == 0:
            tips = [(topic.place, topic.tip) for topic in self.hub.topics()]
        look: Look = await self._look(watch_queries.look, self._seen, tips, list(asked))
        everybody, self._doubt = look.everybody or self._doubt, False
        self._seen, self._truth_at = look.seen, now
        self._answer(asked, look.access, now)
        self._move(look)
        if ended := [change.credential for change in look.changes if change.ended and change.credential]:
            denying = asyncio.create_task(self._deny(ended))
            self._denying.add(denying)
            denying.add_done_callback(self._denying.discard)
        again = await self._settled(self._concerned(look, everybody), now)
        while again:
            asked = {claim: again.pop(claim) for claim in list(again)[:AT_ONCE]}
            self._answer(asked, await self._look(watch_queries.ask, list(asked)), now)

    async def _deny(self, ended: Sequence[str]) -> None:
        """Tell every service of log-ins that have ended, so that it need not ask the database to refuse them."""
        try:
            await self._run(denylist.add, ended)
        except errors.Problem as problem:
            log.entry("INFO", "ended log-ins were not listed", code=problem.code)

    def _concerned(self, look: Look, everybody: bool) -> dict[Claim, list[Reader]]:
        """The readers that a change tells to look at again."""
        if everybody or any(change.tenant_id is None and change.credential is None for change in look.changes):
            return _by_claim(self.hub.readers())
        if not look.changes:
            return {}
        tenants = {change.tenant_id for change in look.changes}
        credentials = {change.credential for change in look.changes}
        return _by_claim(
            reader
            for reader in self.hub.readers()
            if reader.place.tenant_id in tenants or reader.claim.login_session_id in credentials
        )

    async def _settled(self, asked: dict[Claim, list[Reader]], now: float) -> dict[Claim, list[Reader]]:
        """Who is left to ask about: of a suspended organization one answer cuts all streams."""
        first: dict[str, Claim] = {}
        for claim, readers in asked.items():
            first.setdefault(readers[0].place.tenant_id, claim)
        if len(asked) <= 2 * len(first):
            return asked
        access = await self._look(watch_queries.ask, list(first.values()))
        over = {tenant for tenant, answer in zip(first, access, strict=True) if answer.refusal == SUSPENDED}
        cut = {claim: readers for claim, readers in asked.items() if readers[0].place.tenant_id in over}
        self._answer(cut, [Access(SUSPENDED, None)] * len(cut), now)
        return {claim: readers for claim, readers in asked.items() if claim not in cut}

    def _answer(self, asked: dict[Claim, list[Reader]], access: Sequence[Access], now: float) -> None:
        """Cut the readers whom the database refuses; the others are asked about again in a minute or so."""
        cut: dict[str, int] = {}
        for readers, answer in zip(asked.values(), access, strict=True):
            for reader in readers:
                if answer.refusal is not None:
                    if reader.code is None:
                        cut[answer.refusal] = cut.get(answer.refusal, 0) + 1
                    reader.cut(answer.refusal)
                elif answer.ends_at is not None:
                    reader.expires_at = min(answer.ends_at, reader.expires_at or answer.ends_at)
                reader.due = now + RENEW_SECONDS * JITTER.uniform(0.5, 1)
        for code, streams in cut.items():
            log.security("INFO", "streams were cut", code=code, streams=streams)

    def _move(self, look: Look) -> None:
        """Tell the hub of events that were not told here, and of sessions that are over."""
        for moved in look.moved:
            if moved.last_seq is None:
                self.hub.end(moved.place, "not_found")
                continue
            self.hub.seen(moved.place, moved.last_seq)
            if moved.closed:
                self.hub.end(moved.place, "session_closed")

    async def _sweep(self) -> None:
        """Close sessions that nobody uses, here or in any replica; their streams end everywhere."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS * JITTER.uniform(0.5, 1.5))
            more = True
            while more:
                sweeping = asyncio.ensure_future(self._run(watch_queries.close_idle, SWEPT))
                await asyncio.wait({sweeping})
                error = sweeping.exception()
                if error is not None:
                    log.entry("WARNING", "idle sessions could not be closed", error=type(error).__name__)
                closed = [] if error is not None else sweeping.result()
                for place in closed:
                    self.hub.tell_end(place, "session_closed")
                more = len(closed) == SWEPT


def _by_claim(readers: Iterable[Reader]) -> dict[Claim, list[Reader]]:
    """The readers of each claim."""
    found: dict[Claim, list[Reader]] = {}
    for reader in readers:
        found.setdefault(reader.claim, []).append(reader)
    return found
