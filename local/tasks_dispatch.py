"""The dispatcher of Cloud Tasks: rate, concurrency, headers, tokens, retries."""

import asyncio
import sys
import time
from dataclasses import dataclass, field

import aiohttp
from google.cloud import tasks_v2 as api

from local.backoff import Backoff
from local.identity import Issuer
from local.tasks_checks import complete_retry
from local.tasks_store import RUNNING, Record, TaskStore

RETENTION_SECONDS = 31 * 86_400
IDLE_SECONDS = 60.0
OURS = ("x-cloudtasks-", "x-google-", "x-appengine-")
COMPUTED = ("host", "content-length", "user-agent", "transfer-encoding", "connection")
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


@dataclass
class Bucket:
    """A token bucket: `rate` tokens a second, `size` at most, full at first. Times are monotonic seconds."""

    rate: float
    size: int
    tokens: float = field(init=False)
    at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.tokens = float(self.size)

    def wait(self) -> float:
        """Seconds until the next token; 0 if there is one."""
        now = time.monotonic()
        self.tokens = min(float(self.size), self.tokens + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (1 - self.tokens) / self.rate)

    def take(self) -> None:
        """Use a token."""
        self.tokens -= 1


class Dispatcher:
    """Sends what is due, one attempt of a task at a time."""

    def __init__(self, store: TaskStore, issuer: Issuer) -> None:
        self.store = store
        self.issuer = issuer
        self.changed = asyncio.Event()
        self.buckets: dict[str, Bucket] = {}
        self.flights: dict[str, set[asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Dispatch until cancelled; what is in flight then is delivered again after the next start."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        async with session, asyncio.TaskGroup() as group:
            while True:
                self.changed.clear()
                rest = min((self._fill(queue, group, session) for queue in self.store.queues()), default=IDLE_SECONDS)
                try:
                    await asyncio.wait_for(self.changed.wait(), min(rest, IDLE_SECONDS))
                except TimeoutError:
                    continue

    def _fill(self, queue: api.Queue, group: asyncio.TaskGroup, session: aiohttp.ClientSession) -> float:
        """Start every attempt that the queue allows now; returns the seconds until it may allow another."""
        flights = self.flights.setdefault(queue.name, set())
        limits = queue.rate_limits
        bucket = self.buckets.get(queue.name)
        if bucket is None or bucket.rate != limits.max_dispatches_per_second:
            bucket = self.buckets[queue.name] = Bucket(limits.max_dispatches_per_second, limits.max_burst_size)
        while queue.state == RUNNING and len(flights) < limits.max_concurrent_dispatches:
            due = self.store.next_due(queue.name)
            if due is None:
                return IDLE_SECONDS
            rest = max(due - time.time(), bucket.wait())
            record = self.store.take(queue.name, time.time()) if rest <= 0 else None
            if record is None:
                return max(rest, 0.001)
            bucket.take()
            flight = group.create_task(self._attempt(queue, record, session))
            flights.add(flight)
            flight.add_done_callback(flights.discard)
            flight.add_done_callback(lambda _: self.changed.set())
        return IDLE_SECONDS

    async def _attempt(self, queue: api.Queue, record: Record, session: aiohttp.ClientSession) -> None:
        task: api.Task = api.Task.deserialize(record.body)
        code = await self._send(task, headers(task, record, self.issuer), session)
        now = time.time()
        if code is not None and 200 <= code <= 299:
            self.store.finish(record.name, now)
            return
        own = api.Task.pb(task).HasField("retry_config")
        retry = complete_retry(task.retry_config) if own else queue.retry_config
        attempts = record.dispatches + 1
        if exhausted(retry, attempts, now - (record.first_dispatch or now), now - record.created):
            _log(f"{record.name} failed for good after {attempts} attempts, last {code}")
            self.store.finish(record.name, now)
        else:
            _log(f"{record.name} attempt {attempts} failed: {code}")
            self.store.put_back(record.name, code, now + interval(retry, attempts), now)

    async def _send(self, task: api.Task, sent: dict[str, str], session: aiohttp.ClientSession) -> int | None:
        """The HTTP status of one attempt, or None without an answer by the deadline."""
        request = task.http_request
        length = api.Task.pb(task).dispatch_deadline.ToMilliseconds() / 1000
        try:
            async with session.request(
                api.HttpMethod(request.http_method).name,
                request.url,
                data=request.body or None,
                headers=sent,
                skip_auto_headers=("Content-Type", "Accept-Encoding"),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=length),
            ) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):  # ValueError: a URL or header it cannot send
            return None


def headers(task: api.Task, record: Record, issuer: Issuer) -> dict[str, str]:
    """The task's own headers but those that Cloud Tasks computes, then Cloud Tasks' own."""
    request = task.http_request
    kept = {name: value for name, value in request.headers.items() if not name.lower().startswith(OURS)}
    sent = {name: value for name, value in kept.items() if name.lower() not in COMPUTED}
    sent |= {
        "User-Agent": "Google-Cloud-Tasks",
        "X-CloudTasks-QueueName": record.queue.rpartition("/")[2],
        "X-CloudTasks-TaskName": record.name.rpartition("/")[2],
        "X-CloudTasks-TaskRetryCount": str(record.dispatches),
        "X-CloudTasks-TaskExecutionCount": str(record.executions),
        "X-CloudTasks-TaskETA": f"{record.scheduled:.6f}",
    }
    if record.last_code is not None:
        sent["X-CloudTasks-TaskPreviousResponse"] = str(record.last_code)
    kind = api.Task.pb(task).http_request.WhichOneof("authorization_header")
    if kind == "oauth_token":
        scopes = (request.oauth_token.scope or CLOUD_PLATFORM).split()
        token = issuer.access_token(request.oauth_token.service_account_email, scopes)
    elif kind == "oidc_token":
        audience = request.oidc_token.audience or request.url
        token = issuer.identity_token(request.oidc_token.service_account_email, audience)
    else:
        return sent
    sent = {name: value for name, value in sent.items() if name.lower() != "authorization"}
    return sent | {"Authorization": f"Bearer {token}"}


def exhausted(retry: api.RetryConfig, attempts: int, trying: float, age: float) -> bool:
    """Whether no attempt may follow: every limit that is set is reached, or the task is 31 days old."""
    duration = api.RetryConfig.pb(retry).max_retry_duration.seconds
    reached = [attempts >= retry.max_attempts] if retry.max_attempts >= 0 else []
    if duration > 0:
        reached.append(trying >= duration)
    return (bool(reached) and all(reached)) or age >= RETENTION_SECONDS


def interval(retry: api.RetryConfig, failures: int) -> float:
    """Seconds until the next attempt."""
    config = api.RetryConfig.pb(retry)
    smallest, largest = (each.ToMilliseconds() / 1000 for each in (config.min_backoff, config.max_backoff))
    return Backoff(smallest, largest, retry.max_doublings).interval(failures)


def _log(line: str) -> None:
    sys.stderr.write(f"{line}\n")
