"""The watcher of a replica: cuts streams whose access has ended, and tells the hub what was not told to it.

It looks at the database twice a second: docs/decisions/0022-revocation-by-a-feed.md. A change of access says only "look
again"; whether a stream goes on is asked of app.credential, as every request asks it. What a look may have missed is
found by asking for each reader anew once a minute; without any look for half a minute nobody goes on.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from common import denylist, errors, log
from common.tokens import Claim
from sessions import watch_queries
from sessions.hub import Hub, Reader
from sessions.watch_queries import Access, Look

POLL_SECONDS = 0.5
TIPS_EVERY = 6  # looks, while the other replicas tell by themselves
RENEW_SECONDS = 60  # how long an answer of the database about a reader holds without a change
TRUTH_SECONDS = 30  # without any answer of the database all streams end
AT_ONCE = 1000  # claims per question
SWEEP_SECONDS = 5
SWEPT = 50  # idle sessions that are closed in one transaction
OVER = "invalid_token"

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
                self._expire(began)
                if looking is None or looking.done():
                    self._heed(looking)
                    looking = asyncio.create_task(self.once())
                await asyncio.sleep(max(0.0, began + POLL_SECONDS - loop.time()))
        finally:
            sweeping.cancel()
            if looking is not None:
                looking.cancel()

    def _expire(self, now: float) -> None:
        """Cut whose token has expired, and everybody when the database has been silent for too long."""
        clock = time.time()
        silent = now - self._truth_at > TRUTH_SECONDS
        for reader in self.hub.readers():
            if reader.expires_at is not None and reader.expires_at <= clock:
                reader.cut(OVER)
            elif silent:
                reader.cut("unavailable")

    def _heed(self, looked: "asyncio.Task[Any] | None") -> None:
        """A look that failed does not end the watch: it is repeated, and in the end the streams are cut."""
        error = None if looked is None or looked.cancelled() else looked.exception()
        if isinstance(error, Exception):
            self._doubt = True
            log.entry("ERROR", "the watcher could not look at the database", error=type(error).__name__)

    async def once(self) -> None:
        """One look, and what follows from it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._looks += 1
        fan = self.hub.fan
        tips = []
        if fan is None or not fan.up or self._looks % TIPS_EVERY == 0:
            tips = [(topic.place, topic.tip) for topic in self.hub.topics()]
        asked = _by_claim((reader for reader in self.hub.readers() if reader.due <= now), AT_ONCE)
        look: Look = await self._look(watch_queries.look, self._seen, tips, list(asked))
        everybody, self._doubt = look.everybody or self._doubt, False
        self._seen, self._truth_at = look.seen, now
        self._answer(asked, look.access, now)
        self._move(look)
        if ended := [change.credential for change in look.changes if change.ended and change.credential]:
            denying = asyncio.create_task(self._deny(ended))
            self._denying.add(denying)
            denying.add_done_callback(self._denying.discard)
        again = self._concerned(look, everybody)
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

    def _answer(self, asked: dict[Claim, list[Reader]], access: Sequence[Access], now: float) -> None:
        """Cut the readers whom the database refuses; the others are asked about again in a minute or so."""
        cut: dict[str, int] = {}
        for readers, answer in zip(asked.values(), access, strict=True):
            for reader in readers:
                if answer.refusal is not None:
                    reader.cut(answer.refusal)
                    cut[answer.refusal] = cut.get(answer.refusal, 0) + 1
                elif answer.ends_at is not None:
                    reader.expires_at = min(answer.ends_at, reader.expires_at or answer.ends_at)
                reader.due = now + RENEW_SECONDS * random.uniform(0.5, 1)  # noqa: S311 - spread
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
            await asyncio.sleep(SWEEP_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - replicas take turns
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


def _by_claim(readers: Iterable[Reader], most: int | None = None) -> dict[Claim, list[Reader]]:
    """The readers of each claim, of `most` claims at most."""
    found: dict[Claim, list[Reader]] = {}
    for reader in readers:
        if reader.claim in found:
            found[reader.claim].append(reader)
        elif most is None or len(found) < most:
            found[reader.claim] = [reader]
    return found
