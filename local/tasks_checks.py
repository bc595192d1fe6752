"""What Cloud Tasks accepts: names, limits, defaults. Each function raises Failure with the documented status."""

import math
import re
import time
import uuid
from urllib.parse import urlsplit

import grpc
from google.cloud import tasks_v2 as api
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from local.identity import EMAIL
from local.layout import PROJECT, REGION
from local.serving import Failure

LOCATION = f"projects/{PROJECT}/locations/{REGION}"
QUEUE = re.compile(rf"{LOCATION}/queues/[A-Za-z0-9-]{{1,100}}")
TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
MAX_TASK_BYTES = 100 * 1024
MAX_AHEAD_SECONDS = 30 * 86_400
DEADLINE_SECONDS = 600
DEADLINE_LIMITS = (15, 1800)
MAX_URL = 2083
RATE, MAX_RATE = 500.0, 500.0
CONCURRENCY, MAX_CONCURRENCY = 1000, 5000
MIN_BACKOFF, MAX_BACKOFF, DOUBLINGS, ATTEMPTS = 0.1, 3600.0, 16, 100
WITH_BODY = (api.HttpMethod.POST, api.HttpMethod.PUT, api.HttpMethod.PATCH)


def invalid(message: str) -> Failure:
    """INVALID_ARGUMENT."""
    return Failure(grpc.StatusCode.INVALID_ARGUMENT, message)


def queue_name(name: str) -> str:
    """The name, if it is one of a queue of this project and region."""
    if not QUEUE.fullmatch(name):
        raise invalid("The queue name must be projects/PROJECT/locations/LOCATION/queues/QUEUE of this project.")
    return name


def complete_queue(queue: api.Queue) -> api.Queue:
    """The queue with every setting that was left out set to its default, durations cut to whole seconds."""
    limits, retry = queue.rate_limits, queue.retry_config
    rate = limits.max_dispatches_per_second or RATE
    concurrency = limits.max_concurrent_dispatches or CONCURRENCY
    if not (0 < rate <= MAX_RATE and 0 < concurrency <= MAX_CONCURRENCY) or retry.max_attempts < -1:
        raise invalid("The rate, the concurrency or the number of attempts is out of range.")
    return api.Queue(
        name=queue_name(queue.name),
        state=api.Queue.State.RUNNING,
        rate_limits=api.RateLimits(
            max_dispatches_per_second=rate,
            max_burst_size=math.ceil(rate),
            max_concurrent_dispatches=concurrency,
        ),
        retry_config=complete_retry(retry),
    )


def complete_retry(retry: api.RetryConfig) -> api.RetryConfig:
    """Retry settings with the defaults of Cloud Tasks; an unset or zero field is one that was left out."""
    given = api.RetryConfig.pb(retry)
    smallest = given.min_backoff.seconds or MIN_BACKOFF
    largest = given.max_backoff.seconds or max(MAX_BACKOFF, smallest)
    if largest < smallest:
        raise invalid("max_backoff must not be smaller than min_backoff.")
    return api.RetryConfig(
        max_attempts=retry.max_attempts or ATTEMPTS,
        max_retry_duration=Duration(seconds=given.max_retry_duration.seconds),
        min_backoff=seconds(smallest),
        max_backoff=seconds(largest),
        max_doublings=retry.max_doublings or DOUBLINGS,
    )


def complete_task(task: api.Task, queue: str) -> api.Task:
    """The task as it is kept: named, scheduled now or later, with a deadline. `queue` is its parent."""
    made = api.Task(task)
    made.name = _task_name(task.name, queue)
    now = time.time()
    message = api.Task.pb(made)
    for output in ("first_attempt", "last_attempt"):
        message.ClearField(output)
    scheduled = message.schedule_time.ToMicroseconds() / 1e6 if message.HasField("schedule_time") else now
    if scheduled > now + MAX_AHEAD_SECONDS:
        raise invalid("The schedule time must be at most 30 days ahead.")
    made.schedule_time = stamp(max(scheduled, now))
    made.create_time = stamp(float(int(now)))
    if not message.HasField("dispatch_deadline"):
        made.dispatch_deadline = Duration(seconds=DEADLINE_SECONDS)
    least, most = DEADLINE_LIMITS
    if not least * 1e9 <= api.Task.pb(made).dispatch_deadline.ToNanoseconds() <= most * 1e9:
        raise invalid("The dispatch deadline must be between 15 seconds and 30 minutes.")
    _check_request(made)
    if message.ByteSize() > MAX_TASK_BYTES:
        raise invalid("A task must not be larger than 100 KB.")
    return made


def _task_name(name: str, queue: str) -> str:
    if not name:
        return f"{queue}/tasks/{uuid.uuid4().int % 10**20}"
    parent, _, id = name.rpartition("/tasks/")
    if parent != queue or not TASK_ID.fullmatch(id):
        raise invalid("The task name must be that of its queue, followed by /tasks/ and an id.")
    return name


def _check_request(task: api.Task) -> None:
    message = api.Task.pb(task)
    if message.WhichOneof("message_type") != "http_request":
        raise invalid("This stand-in knows HTTP tasks only.")
    request = task.http_request
    address = urlsplit(request.url)
    if address.scheme not in ("http", "https") or not address.hostname or len(request.url) > MAX_URL:
        raise invalid("The URL must be an http or https address of at most 2,083 characters.")
    if not request.http_method:
        message.http_request.http_method = api.HttpMethod.POST
    if request.body and request.http_method not in WITH_BODY:
        raise invalid("Only POST, PUT and PATCH take a body.")
    kind = message.http_request.WhichOneof("authorization_header")
    if kind and not EMAIL.fullmatch(getattr(request, kind).service_account_email):
        raise invalid("The service account's e-mail is not valid.")
    if any("\r" in text or "\n" in text for pair in request.headers.items() for text in pair):
        raise invalid("A header must be one line.")


def stamp(at: float) -> Timestamp:
    """A timestamp of seconds since 1970, to the microsecond."""
    made = Timestamp()
    made.FromMicroseconds(int(at * 1e6))
    return made


def seconds(length: float) -> Duration:
    """A duration of so many seconds."""
    made = Duration()
    made.FromMicroseconds(int(length * 1e6))
    return made
