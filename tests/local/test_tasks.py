"""Cloud Tasks through Google's client library, delivering to a real HTTP server."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2 as api
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from local.backoff import Backoff
from local.identity import Issuer
from local.layout import HOST, PROJECT, REGION, Layout, service_account
from local.tasks_checks import complete_retry
from local.tasks_dispatch import exhausted
from local.tasks_store import TOMBSTONE_SECONDS, TaskStore

LOCATION = f"projects/{PROJECT}/locations/{REGION}"
JOBS = f"{LOCATION}/queues/jobs"
ACCOUNT = service_account("tasks")
Client: Any = api.CloudTasksClient


@dataclass
class Target:
    """Where tasks go: it keeps what came, and answers with `status` once `gate` is open."""

    url: str = ""
    status: int = 200
    gate: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: list[tuple[float, str, dict[str, str], bytes]] = field(default_factory=list)
    now: int = 0
    most: int = 0

    def headers(self, name: str) -> list[str | None]:
        """One header of every request, in order."""
        return [headers.get(name) for _, _, headers, _ in self.seen]

    def gaps(self) -> list[float]:
        """Seconds between the requests."""
        times = [at for at, _, _, _ in self.seen]
        return [after - before for before, after in itertools.pairwise(times)]


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    target.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with target.lock:
                target.seen.append((time.monotonic(), self.path, dict(self.headers), body))
                target.now += 1
                target.most = max(target.most, target.now)
            target.gate.wait(20)
            with target.lock:
                target.now -= 1
            self.send_response(target.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 100

        def handle_error(self, *_: Any) -> None:
            """A killed client is part of the tests."""

    server = Server((HOST, 0), Handler)
    target.url = f"http://{HOST}:{server.server_port}/work"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield target
    target.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def stack(layout: Layout, start: Any) -> Iterator[Layout]:
    with start("local.tasks", layout, "tasks"):
        yield layout


@pytest.fixture
def connect(layout: Layout, channel: Callable[[str, str], grpc.Channel]) -> Callable[[], Any]:
    return lambda: Client(transport=CloudTasksGrpcTransport(channel=channel("tasks", service_account("tester"))))


@pytest.fixture
def client(stack: Layout, connect: Callable[[], Any]) -> Any:
    return connect()


def post(target: Target, **more: Any) -> dict[str, Any]:
    return {"http_request": {"url": target.url, "body": b"{}"}, **more}


def make_queue(client: Any, name: str, limits: dict[str, Any] | None = None, **retry: Any) -> str:
    queue = {"name": f"{LOCATION}/queues/{name}", "rate_limits": limits or {}, "retry_config": retry}
    made: str = client.create_queue(parent=LOCATION, queue=queue).name
    return made


def gone(client: Any, name: str) -> bool:
    try:
        client.get_task(name=name)
    except exceptions.NotFound:
        return True
    return False


def test_it_works(client: Any, target: Target, eventually: Any) -> None:
    name = f"{JOBS}/tasks/first"
    request = {"url": target.url, "body": b'{"a": 1}', "headers": {"Content-Type": "application/json", "X-Mine": "1"}}

    made = client.create_task(parent=JOBS, task={"name": name, "http_request": request})

    assert (made.name, made.view, made.http_request.body) == (name, api.Task.View.BASIC, b"")
    assert made.dispatch_deadline == timedelta(minutes=10)
    eventually(lambda: gone(client, name))
    [(_, path, headers, body)] = target.seen
    assert (path, body) == ("/work", b'{"a": 1}')
    assert (headers["Content-Type"], headers["X-Mine"]) == ("application/json", "1")
    assert headers["User-Agent"] == "Google-Cloud-Tasks"
    assert (headers["X-CloudTasks-QueueName"], headers["X-CloudTasks-TaskName"]) == ("jobs", "first")
    assert (headers["X-CloudTasks-TaskRetryCount"], headers["X-CloudTasks-TaskExecutionCount"]) == ("0", "0")
    assert abs(float(headers["X-CloudTasks-TaskETA"]) - time.time()) < 10
    assert "X-CloudTasks-TaskPreviousResponse" not in headers
    assert "Authorization" not in headers


def test_the_queues_of_the_file_exist(client: Any) -> None:
    assert [each.name for each in client.list_queues(parent=LOCATION)] == [JOBS, f"{LOCATION}/queues/mails"]
    queue = client.get_queue(name=JOBS)
    assert queue.retry_config.min_backoff == timedelta(seconds=1)
    assert (queue.rate_limits.max_dispatches_per_second, queue.rate_limits.max_concurrent_dispatches) == (50, 20)


def test_a_name_cannot_be_used_again_while_it_waits_nor_after(client: Any, target: Target, eventually: Any) -> None:
    for name, later in (("executed", 0), ("waiting", 60), ("deleted", 60)):
        full = f"{JOBS}/tasks/{name}"
        when = datetime.now(UTC) + timedelta(seconds=later)
        client.create_task(parent=JOBS, task=post(target, name=full, schedule_time=when))
        if name == "executed":
            eventually(lambda full=full: gone(client, full))
        if name == "deleted":
            client.delete_task(name=full)
            assert gone(client, full)

        with pytest.raises(exceptions.AlreadyExists):
            client.create_task(parent=JOBS, task=post(target, name=full))

    assert len(target.seen) == 1


def test_a_name_is_free_again_after_an_hour(layout: Layout) -> None:
    store = TaskStore(layout.root, 0)
    store.set_queue(api.Queue(name=JOBS))
    task = api.Task(name=f"{JOBS}/tasks/a")
    assert store.create(task, JOBS, 0, 0)
    assert store.finish(task.name, 10)

    assert not store.create(task, JOBS, 0, 9 + TOMBSTONE_SECONDS)
    assert store.create(task, JOBS, 0, 10 + TOMBSTONE_SECONDS)


def test_an_access_token_comes_along(client: Any, target: Target, stack: Layout, eventually: Any) -> None:
    request = {"url": target.url, "oauth_token": {"service_account_email": ACCOUNT}}
    client.create_task(parent=JOBS, task={"http_request": request | {"headers": {"authorization": "Bearer mine"}}})
    [header] = eventually(lambda: target.headers("Authorization"))
    assert Issuer(stack.root).verify_access_token(header) == ACCOUNT
    assert [name.lower() for name in target.seen[0][2]].count("authorization") == 1


def test_an_identity_token_comes_along(client: Any, target: Target, stack: Layout, eventually: Any) -> None:
    issuer = Issuer(stack.root)
    for audience in ("http://127.0.0.1:9", ""):
        token = {"service_account_email": ACCOUNT, "audience": audience}
        client.create_task(parent=JOBS, task={"http_request": {"url": target.url, "oidc_token": token}})
        eventually(lambda: len(target.seen) == 1)

        header = target.seen.pop()[2]["Authorization"]
        assert issuer.verify_identity_token(header.removeprefix("Bearer "), audience or target.url) == ACCOUNT


def test_retries_wait_as_the_queue_says(client: Any, target: Target, eventually: Any) -> None:
    target.status = 418
    one, two = timedelta(seconds=1), timedelta(seconds=2)
    queue = make_queue(client, "slow", min_backoff=one, max_backoff=two, max_doublings=1, max_attempts=4)
    name = client.create_task(parent=queue, task=post(target)).name

    eventually(lambda: gone(client, name))  # after its last attempt a task is deleted

    assert len(target.gaps()) == 3
    for gap, due in zip(target.gaps(), (1, 2, 2), strict=True):  # without the limit the last one would be 4
        assert due - 0.05 < gap < due + 1.5
    assert target.headers("X-CloudTasks-TaskRetryCount") == ["0", "1", "2", "3"]
    assert target.headers("X-CloudTasks-TaskExecutionCount") == ["0", "1", "2", "3"]
    assert target.headers("X-CloudTasks-TaskPreviousResponse") == [None, "418", "418", "418"]
    with pytest.raises(exceptions.AlreadyExists):
        client.create_task(parent=queue, task=post(target, name=name))


def test_a_server_error_counts_as_a_retry_but_not_as_an_execution(client: Any, target: Target, eventually: Any) -> None:
    target.status = 503
    queue = make_queue(client, "quick", max_attempts=3, max_backoff=timedelta(seconds=1))
    name = client.create_task(parent=queue, task=post(target)).name
    eventually(lambda: gone(client, name))

    assert target.headers("X-CloudTasks-TaskRetryCount") == ["0", "1", "2"]
    assert target.headers("X-CloudTasks-TaskExecutionCount") == ["0", "0", "0"]
    assert target.headers("X-CloudTasks-TaskPreviousResponse") == [None, "503", "503"]


def test_a_failing_task_shows_its_attempts(client: Any, target: Target, eventually: Any) -> None:
    target.status = 503
    name = client.create_task(parent=JOBS, task=post(target)).name
    task = eventually(lambda: (found := client.get_task(name=name)).response_count and found)

    assert task.last_attempt.response_status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert task.schedule_time > task.last_attempt.dispatch_time
    target.status = 204
    eventually(lambda: gone(client, name))


def test_the_documented_back_off() -> None:
    backoff = Backoff(smallest=10, largest=300, doublings=3)
    assert [backoff.interval(failures) for failures in range(1, 9)] == [10, 20, 40, 80, 160, 240, 300, 300]
    assert Backoff(smallest=0.1, largest=3600, doublings=16).interval(100_000) == 3600


@pytest.mark.parametrize(
    ("attempts", "duration", "tried", "trying", "age", "ends"),
    [
        (3, 0, 2, 1e9, 0, False),
        (3, 0, 3, 0, 0, True),
        (3, 60, 3, 59, 0, False),  # both limits must be reached
        (3, 60, 2, 61, 0, False),
        (3, 60, 3, 60, 0, True),
        (-1, 60, 1, 60, 0, True),
        (-1, 0, 10**6, 1e6, 1e6, False),
        (-1, 0, 1, 0, 31 * 86_400, True),
    ],
)
def test_retries_end(attempts: int, duration: int, tried: int, trying: float, age: float, ends: bool) -> None:
    given: Any = {"max_attempts": attempts, "max_retry_duration": timedelta(seconds=duration)}
    assert exhausted(complete_retry(api.RetryConfig(given)), tried, trying, age) is ends


def test_a_scheduled_task_waits(client: Any, target: Target, eventually: Any) -> None:
    due = time.time() + 1.5
    when = datetime.fromtimestamp(due, UTC)
    made = client.create_task(parent=JOBS, task=post(target, schedule_time=when))
    assert made.schedule_time == when
    eventually(lambda: target.seen)
    assert 0 <= time.time() - due < 3


def test_no_more_run_at_once_than_the_queue_allows(client: Any, target: Target, eventually: Any) -> None:
    target.gate.clear()
    queue = make_queue(client, "narrow", {"max_concurrent_dispatches": 3})
    for _ in range(8):
        client.create_task(parent=queue, task=post(target))
    eventually(lambda: target.now == 3)
    target.gate.set()
    eventually(lambda: len(target.seen) == 8)
    assert target.most == 3


def test_no_more_start_per_second_than_the_queue_allows(client: Any, target: Target, eventually: Any) -> None:
    queue = make_queue(client, "rate", {"max_dispatches_per_second": 5})
    client.pause_queue(name=queue)
    for _ in range(12):
        client.create_task(parent=queue, task=post(target))
    client.resume_queue(name=queue)
    eventually(lambda: len(target.seen) == 12)
    assert client.get_queue(name=queue).rate_limits.max_burst_size == 5
    assert 1.2 < target.seen[11][0] - target.seen[0][0] < 5  # a burst of 5, then 7 at 5 a second


def test_a_paused_queue_takes_tasks_and_sends_none(client: Any, target: Target, eventually: Any) -> None:
    assert client.pause_queue(name=JOBS).state == api.Queue.State.PAUSED
    name = client.create_task(parent=JOBS, task=post(target)).name
    other = make_queue(client, "other")
    client.create_task(parent=other, task=post(target))
    eventually(lambda: target.headers("X-CloudTasks-QueueName") == ["other"])
    assert not gone(client, name)

    client.resume_queue(name=JOBS)
    eventually(lambda: target.headers("X-CloudTasks-QueueName") == ["other", "jobs"])


def test_a_purged_queue_is_empty(client: Any, target: Target) -> None:
    client.pause_queue(name=JOBS)
    names = sorted(client.create_task(parent=JOBS, task=post(target)).name for _ in range(3))
    assert [each.name for each in client.list_tasks(parent=JOBS)] == names
    assert client.purge_queue(name=JOBS).purge_time is not None
    assert list(client.list_tasks(parent=JOBS)) == []


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"http_request": {"url": "ftp://127.0.0.1/"}},
        {"http_request": {"url": "http://127.0.0.1/", "http_method": api.HttpMethod.GET, "body": b"x"}},
        {"http_request": {"url": "http://127.0.0.1/", "body": bytes(102_400)}},
        {"http_request": {"url": "http://127.0.0.1/"}, "dispatch_deadline": timedelta(seconds=14)},
        {"http_request": {"url": "http://127.0.0.1/"}, "dispatch_deadline": timedelta(seconds=1801)},
        {"http_request": {"url": "http://127.0.0.1/", "oidc_token": {"service_account_email": "x@example.com"}}},
        {"http_request": {"url": "http://127.0.0.1/"}, "name": f"{LOCATION}/queues/mails/tasks/x"},
        {"http_request": {"url": "http://127.0.0.1/"}, "name": f"{JOBS}/tasks/a.b"},
    ],
)
def test_a_task_beyond_the_documented_limits_is_refused(client: Any, task: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        client.create_task(parent=JOBS, task=task)


def test_a_task_more_than_30_days_ahead_is_refused(client: Any, target: Target) -> None:
    for days, refused in ((29.9, False), (30.1, True)):
        task = post(target, schedule_time=datetime.now(UTC) + timedelta(days=days))
        if refused:
            with pytest.raises(exceptions.InvalidArgument):
                client.create_task(parent=JOBS, task=task)
        else:
            client.create_task(parent=JOBS, task=task)


def test_what_is_not_there_is_not_found(client: Any, target: Target) -> None:
    with pytest.raises(exceptions.NotFound):
        client.create_task(parent=f"{LOCATION}/queues/none", task=post(target))
    with pytest.raises(exceptions.NotFound):
        client.delete_task(name=f"{JOBS}/tasks/none")
    with pytest.raises(exceptions.AlreadyExists):
        make_queue(client, "jobs")


def test_a_call_needs_a_token(stack: Layout, target: Target) -> None:
    trusted = grpc.ssl_channel_credentials(stack.path("tls", "ca.pem").read_bytes())
    with grpc.secure_channel(f"{HOST}:{stack.ports['tasks']}", trusted) as connection:
        nobody = Client(transport=CloudTasksGrpcTransport(channel=connection))
        with pytest.raises(exceptions.Unauthenticated):
            nobody.create_task(parent=JOBS, task=post(target))


def test_a_kill_in_the_middle_of_a_delivery_loses_nothing(
    layout: Layout, start: Any, connect: Callable[[], Any], target: Target, eventually: Any
) -> None:
    target.gate.clear()
    with start("local.tasks", layout, "tasks") as process:
        client = connect()
        names = [client.create_task(parent=JOBS, task=post(target)).name for _ in range(25)]
        eventually(lambda: target.now == 20)  # as many as the queue sends at once
        process.kill()
        process.wait()
    target.gate.set()
    flying = {name for name in target.headers("X-CloudTasks-TaskName")}
    target.seen.clear()

    with start("local.tasks", layout, "tasks"):
        client = connect()
        eventually(lambda: not list(client.list_tasks(parent=JOBS)))
        sent = dict(
            zip(target.headers("X-CloudTasks-TaskName"), target.headers("X-CloudTasks-TaskRetryCount"), strict=True)
        )
        assert sent.keys() == {name.rpartition("/")[2] for name in names}
        assert {name for name, count in sent.items() if count == "1"} == flying
        with pytest.raises(exceptions.AlreadyExists):
            client.create_task(parent=JOBS, task=post(target, name=names[0]))


def test_a_target_that_is_away_is_tried_again(client: Any, target: Target, eventually: Any) -> None:
    closed = ThreadingHTTPServer((HOST, 0), BaseHTTPRequestHandler)
    address = f"http://{HOST}:{closed.server_port}/"
    closed.server_close()
    name = client.create_task(parent=JOBS, task={"http_request": {"url": address}}).name
    task = eventually(lambda: (found := client.get_task(name=name)).dispatch_count >= 2 and found)
    assert task.response_count == 0


def test_it_stops_at_once_with_deliveries_in_flight(
    layout: Layout, start: Any, connect: Callable[[], Any], target: Target, eventually: Any
) -> None:
    target.gate.clear()
    with start("local.tasks", layout, "tasks") as process:
        name = connect().create_task(parent=JOBS, task=post(target)).name
        eventually(lambda: target.now == 1)
        process.terminate()
        assert process.wait(timeout=15) == 0  # while the delivery is held for as long as the gate is shut
    target.gate.set()

    with start("local.tasks", layout, "tasks"):
        client = connect()
        eventually(lambda: gone(client, name))
    assert target.headers("X-CloudTasks-TaskRetryCount") == ["0", "1"]
