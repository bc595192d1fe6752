"""Rate limits: named policies, counted in Valkey by all instances together, in one round trip for all that apply.

The same round trip asks for the caller's log-in in the denylist (common/denylist.py). Sliding window counters with the
keys and the arithmetic of the library `limits`, whose scripts take one round trip per policy and again per look.
Without Valkey everything passes, for counters are not truth; but for events, which each process then counts alone.
Sources: https://limits.readthedocs.io/en/stable/strategies.html#sliding-window-counter,
https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ (the headers, as structured fields).
"""

import ipaddress
import threading
import time
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from common import cache as valkey
from common import denylist, errors, local_counts, log, tracing
from common.cache_script import Script
from common.rates import Limit, parse
from common.settings import settings

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from common.access import Caller
    from common.call import Route

NAMES = ("anonymous", "ip", "user", "organization", "events")
EXEMPT = ("/health/", "/docs", "/v1/openapi.json", "/.well-known/jwks.json")  # of the anonymous policy
HEALTH = "/health/"
UNAUTHENTICATED = 401
TIMEOUT_SECONDS = 0.25
PAUSE_SECONDS = 2.0  # after a failure nobody waits for Valkey, and then one request tries
KNOWN_KEYS = 10_000
LOCAL = frozenset({"events"})  # what a process counts alone without Valkey

# KEYS: the previous and the current window of each subject, and perhaps one that is there when the log-in was revoked.
# ARGV, for each subject: limit, window in ms, how many to count, and whether to refuse. Answer: which subject refuses,
# 0 for none (it and those behind it are not counted), for each what is left and the ms until one more passes or, while
# some are left, until the window ends, and 1 at the end when the log-in was revoked; as one text, read at once.
SCRIPT = """
local refused, counts, state = 0, {}, {}
for i = 1, #KEYS / 2 do
  local previous_key, current_key = KEYS[2 * i - 1], KEYS[2 * i]
  local limit, window = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local current_left = redis.call('PTTL', current_key)
  if current_left > 0 and current_left < window then
    redis.call('RENAME', current_key, previous_key)
    redis.call('SET', current_key, 0, 'PX', current_left + window)
    current_left = current_left + window
  end
  local current = tonumber(redis.call('GET', current_key)) or 0
  local previous = tonumber(redis.call('GET', previous_key)) or 0
  local previous_left = previous > 0 and math.max(redis.call('PTTL', previous_key), 0) or 0
  local used = math.floor(previous * previous_left / window) + current
  state[i] = {limit, window, current, current_left, previous, previous_left, used}
  if refused == 0 and used >= limit and ARGV[4 * i] == '1' then refused = i end
end
local answer = {refused}
for i, known in ipairs(state) do
  local limit, window, current, current_left, previous, previous_left, used = unpack(known)
  local counted = tonumber(ARGV[4 * i - 1])
  if (refused == 0 or i < refused) and counted > 0 then
    if current_left > 0 then
      redis.call('INCRBY', KEYS[2 * i], counted)
    else
      redis.call('SET', KEYS[2 * i], counted, 'PX', 2 * window)
      current_left = 2 * window
    end
    current, used = current + counted, used + counted
  end
  local rest = current_left > 0 and current_left - window or 0
  local wait = rest
  if used >= limit then
    if current < limit and previous > 0 then
      wait = previous_left - (limit - current) * window / previous
    elseif current > 0 then
      wait = rest + window - limit * window / current
    end
  end
  answer[2 * i] = math.max(limit - used, 0)
  answer[2 * i + 1] = math.max(math.ceil(wait), 0)
end
answer[#answer + 1] = #KEYS % 2 == 1 and redis.call('EXISTS', KEYS[#KEYS]) or 0
for i, number in ipairs(answer) do answer[i] = string.format('%.0f', number) end
return table.concat(answer, ' ')
"""


class Subject(NamedTuple):
    """Whom a policy counts in this request, how much the request counts, and whether it may be refused by it."""

    policy: str
    key: str
    counts: int = 1
    refuses: bool = True


@cache
def policies() -> dict[str, Limit]:
    """The limits by name. Raises ValueError for a setting that is none."""
    return {name: parse(str(getattr(settings(), f"rate_{name}"))) for name in NAMES}


@cache
def _pattern(policy: str) -> tuple[str, str, int, int]:
    """What stands before and after the key of a subject, the limit, and the window in ms."""
    limit = policies()[policy]
    after = f"/{limit.amount}/{limit.multiple}/{limit.unit}}}"
    return f"LIMITS:{{LIMITER/{policy}/", after, limit.amount, limit.seconds * 1000


@lru_cache(maxsize=4096)
def address(client: str | None) -> str:
    """Who counts as one address: an IPv4 address, or the /64 that a subscriber of IPv6 gets."""
    if client is None or ":" not in client:
        return client or "unknown"
    known = ipaddress.IPv6Address(client.split("%")[0])
    if known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return str(ipaddress.IPv6Network((known, 64), strict=False).network_address)


class Counters:
    """The counters in Valkey. A failure is logged once and answered with None, by everybody for a moment."""

    def __init__(self) -> None:
        self._failures = valkey.failures()
        self._run = tracing.traced("valkey")(Script(TIMEOUT_SECONDS, SCRIPT))
        self._down = False
        self._try_at = 0.0

    def take(self, subjects: list[Subject], login_session_id: str = "") -> list[int] | None:
        """The script's answer, None when Valkey cannot be asked."""
        now = time.monotonic()
        if self._down:
            if now < self._try_at:
                return None
            self._try_at = now + PAUSE_SECONDS  # this request tries, the others go on
        keys: list[str] = []
        arguments: list[int] = []
        for subject in subjects:
            before, after, limit, window = _pattern(subject.policy)
            current = before + subject.key + after
            keys += [f"{current}/-1", current]
            arguments += [limit, window, subject.counts, int(subject.refuses)]
        if login_session_id:
            keys.append(denylist.key(login_session_id))
        try:
            answer = [int(number) for number in self._run(keys, arguments).split()]
        except self._failures as error:
            self._try_at = now + PAUSE_SECONDS
            if not self._down:
                log.entry("ERROR", "no rate limits: the cache cannot be reached", error=type(error).__name__)
            self._down = True
            return None
        if self._down:
            log.entry("NOTICE", "rate limits count again")
        self._down = False
        return answer


@cache
def counters() -> Counters | None:
    """The process's counters; none without a cache."""
    return Counters() if settings().valkey_url else None


def _alone(subjects: list[Subject]) -> list[int]:
    """What the script answers, without Valkey: everything is left, but of what is counted here."""
    answer = [0]
    for place, subject in enumerate(subjects, start=1):
        _, _, limit, window = _pattern(subject.policy)
        left, wait = limit, window
        if subject.policy in LOCAL:
            left, wait = local_counts.look(subject.key, limit, window)
            if left == 0 and subject.refuses and not answer[0]:
                answer[0] = place
            elif not answer[0]:
                local_counts.count(subject.key, window, subject.counts)
                left = max(left - subject.counts, 0)
        answer += [left, wait]
    return [*answer, 0]


def _ask(subjects: list[Subject], login_session_id: str = "") -> list[int]:
    store = counters()
    return (store.take(subjects, login_session_id) if store else None) or _alone(subjects)


def _used_up(policy: str, wait: int) -> errors.Problem:
    return errors.Problem(
        "rate_limited",
        f"The limit {policy!r} is used up for now.",
        headers={"Retry-After": str(max(_seconds(wait), 1))},
    )


def count_events(key: str, login_session_id: str = "", number: int = 1) -> None:
    """Count events that come by an open connection, before they are appended. Raises 429, 401 for a revoked log-in.

    `key` is the organization's id; of somebody who may not append, her own: she uses up nobody else's limit.
    """
    answer = _ask([Subject("events", key, number)], login_session_id)
    if answer[0]:
        raise _used_up("events", answer[2])
    if answer[-1]:
        raise denylist.refusal()


_organizations: dict[str, str] = {}
_remembering = threading.Lock()


def remember(api_key: str, tenant_id: str) -> None:
    """Whose an API key is: the database said so, and the next request with it counts for the organization too."""
    with _remembering:
        if api_key not in _organizations and len(_organizations) >= KNOWN_KEYS:
            del _organizations[next(iter(_organizations))]
        _organizations[api_key] = tenant_id


class Tally:
    """The limits that one request falls under, and what is left of each. Internal calls and probes fall under none."""

    def __init__(self, request: "Request") -> None:
        self._path, self._preflight = request.path, request.method == "OPTIONS"
        client = request.headers.get("X-Client-Ip")
        self._address = address(client)
        self._exempt = self._path.startswith("/internal/") or (client is None and self._path.startswith(HEALTH))
        self._left: dict[str, tuple[int, int]] = {}  # policy → what is left, and ms
        self._owed: Subject | None = None  # counted when the request fails
        self.revoked = False  # the denylist has the caller's log-in

    def begin(self, route: "Route | None", caller: "Caller | None") -> None:
        """Count a request before anything is done for it; what has no route is counted and never refused.

        Raises 429 `rate_limited`.
        """
        if self._exempt:
            return
        if self._path.startswith(HEALTH):
            self._count([Subject("ip", self._address, counts=0, refuses=False)])
            return
        known = route is not None
        subjects = [Subject("ip", self._address, refuses=known)]
        if caller is not None:
            subjects += _of_caller(caller, route)
            self._owed = Subject("anonymous", self._address) if caller.api_key else None
        elif not (self._preflight or self._path.startswith(EXEMPT)):
            anonymous = Subject("anonymous", self._address, refuses=known)
            later = route is not None and (route.tokens or route.mailed)
            subjects.append(anonymous._replace(counts=int(not later)))
            self._owed = anonymous._replace(refuses=False) if later else None
        self._count(subjects, caller.login_session_id if caller else "")

    def end(self, status: int) -> None:
        """Count a log-in that failed, and a request whose API key is none: that one is refused too. Raises 429."""
        owed, self._owed = self._owed, None
        if owed is not None and (status == UNAUTHENTICATED if owed.refuses else 400 <= status < 500):
            self._count([owed])

    def appended(self, tenant_id: str, number: int) -> None:
        """Count the events of a request that stands: it is the next one that is refused."""
        self._count([Subject("events", tenant_id, number, refuses=False)])

    def _count(self, subjects: list[Subject], login_session_id: str = "") -> None:
        answer = _ask(subjects, login_session_id)
        for place, subject in enumerate(subjects):
            self._left[subject.policy] = (answer[2 * place + 1], answer[2 * place + 2])
        if answer[0]:
            refused = subjects[answer[0] - 1].policy
            self._owed = None
            raise _used_up(refused, self._left[refused][1])
        self.revoked = self.revoked or bool(answer[-1])

    def headers(self) -> dict[str, str]:
        """RateLimit-Policy and RateLimit; none for a request that nothing counts."""
        if not self._left:
            return {}
        left = [f'"{name}";r={count};t={_seconds(wait)}' for name, (count, wait) in self._left.items()]
        return {"RateLimit-Policy": _stated(tuple(self._left)), "RateLimit": ", ".join(left)}


def _of_caller(caller: "Caller", route: "Route | None") -> list[Subject]:
    known = route is not None
    subjects = [Subject("user", caller.api_key or caller.user_id, refuses=known)]
    tenant_id = caller.tenant_id or _organizations.get(caller.api_key or "")
    if tenant_id:
        subjects.append(Subject("organization", tenant_id, refuses=known))
        if route is not None and route.appends:
            subjects.append(Subject("events", tenant_id, counts=0))
    return subjects


@cache
def _stated(names: tuple[str, ...]) -> str:
    items = [(name, policies()[name]) for name in names]
    return ", ".join(f'"{name}";q={item.amount};w={item.seconds}' for name, item in items)


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)
