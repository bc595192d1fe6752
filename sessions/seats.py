"""Seats: how many streams an organization has open, over all replicas.

Each replica keeps its own count of each organization in Valkey and says so every few seconds; the count of one that has
died is ignored after 15. Without Valkey each replica goes by its own count.
"""

import asyncio
import uuid
from collections import Counter
from dataclasses import dataclass

from common.settings import settings
from sessions.link import Away, Link

KEPT_SECONDS = 15
SAID_SECONDS = 5
TOGETHER_SECONDS = 0.1  # what changes in this time is said at once
PATIENCE_SECONDS = 0.25

# KEYS: the organization's seats, by replica `<count>:<when it is forgotten, in ms>`. ARGV: the replica, its count, how
# many all may have together (none: whatever that is), and how long the count is good, in ms. Answer: 1 when it is kept.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine, all = tonumber(ARGV[2]), tonumber(ARGV[2])
local seats = redis.call('HGETALL', KEYS[1])
for i = 1, #seats, 2 do
  local count, till = string.match(seats[i + 1], '^(%d+):(%d+)$')
  if not till or tonumber(till) <= now then
    redis.call('HDEL', KEYS[1], seats[i])
  elseif seats[i] ~= ARGV[1] then
    all = all + tonumber(count)
  end
end
if ARGV[3] ~= '' and all > tonumber(ARGV[3]) then return 0 end
if mine > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%d:%d', mine, now + ARGV[4]))
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
"""


@dataclass(frozen=True)
class Seat:
    """The right of one stream to be open."""

    tenant_id: str


class Seats:
    """The seats that are taken at this replica. Its calls belong on the event loop's thread."""

    def __init__(self) -> None:
        self._replica = uuid.uuid4().hex
        self._taken: Counter[str] = Counter()
        self._changed: set[str] = set()
        self._link = Link("seats", self._greet)

    async def run(self) -> None:
        """Keep the counts in Valkey, for ever."""
        await asyncio.gather(self._link.run(), self._say_all())

    async def take(self, tenant_id: str) -> Seat | None:
        """A seat, to be given back; None when the organization has none left."""
        most = settings().streams_per_organization
        if self._taken[tenant_id] >= most:
            return None
        self._taken[tenant_id] += 1
        try:
            free = await self._link.ask(*self._count(tenant_id, str(most)), seconds=PATIENCE_SECONDS)
        except Away:
            free = True
        except asyncio.CancelledError:
            self.give_back(Seat(tenant_id))
            raise
        if free:
            return Seat(tenant_id)
        self._release(tenant_id)
        return None

    def give_back(self, seat: Seat) -> None:
        """The stream has ended."""
        tenant_id = seat.tenant_id
        self._release(tenant_id)
        if not self._changed:
            asyncio.get_running_loop().call_later(TOGETHER_SECONDS, self._say_changed)
        self._changed.add(tenant_id)

    def _release(self, tenant_id: str) -> None:
        self._taken[tenant_id] -= 1
        if not self._taken[tenant_id]:
            del self._taken[tenant_id]

    def _count(self, tenant_id: str, most: str) -> tuple[str | int, ...]:
        """The command that says this replica's count, if with the others' it is no more than `most`."""
        mine = self._taken.get(tenant_id, 0)
        return "EVAL", SCRIPT, 1, f"SEATS:{tenant_id}", self._replica, mine, most, KEPT_SECONDS * 1000

    def _greet(self) -> None:
        for tenant_id in self._taken:
            self._link.send(*self._count(tenant_id, ""))

    def _say_changed(self) -> None:
        for tenant_id in self._changed:
            self._link.send(*self._count(tenant_id, ""))
        self._changed.clear()

    async def _say_all(self) -> None:
        while True:
            await asyncio.sleep(SAID_SECONDS)
            self._greet()
