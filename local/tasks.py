"""Cloud Tasks v2 over gRPC: queues, tasks, and their delivery."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import yaml
from google.cloud import tasks_v2 as api
from google.protobuf.empty_pb2 import Empty

from local import grants
from local.identity import Issuer
from local.layout import Layout, service_account
from local.serving import Failure, arguments, guarded, page, rpc, rpc_status, stopped
from local.tasks_checks import LOCATION, complete_queue, complete_task, invalid, queue_name, seconds, stamp
from local.tasks_dispatch import Dispatcher
from local.tasks_store import PAUSED, RUNNING, Record, TaskStore

SERVICE = "google.cloud.tasks.v2.CloudTasks"
QUEUES = Path(__file__).with_name("queues.yaml")
LARGEST_PAGE = 1000
CARRIED = service_account("tasks")  # roles/iam.serviceAccountUser on it is all that enqueuers have


class Tasks:
    """The methods. The stack's own accounts may make tasks in the queues of the catalog, and nothing else."""

    def __init__(self, store: TaskStore, dispatcher: Dispatcher) -> None:
        self.store = store
        self.dispatcher = dispatcher

    def create_queue(self, request: api.CreateQueueRequest, caller: str) -> api.Queue:
        """Make a queue; what is not given gets Cloud Tasks' defaults."""
        queue = complete_queue(request.queue)
        if request.parent != LOCATION:
            raise invalid("The parent must be the location of this project.")
        if self.store.queue(queue.name) is not None:
            raise Failure(grpc.StatusCode.ALREADY_EXISTS, "Queue already exists.")
        self.store.set_queue(queue)
        return queue

    def get_queue(self, request: api.GetQueueRequest, caller: str) -> api.Queue:
        """One queue."""
        return self._queue(request.name)

    def list_queues(self, request: api.ListQueuesRequest, caller: str) -> api.ListQueuesResponse:
        """All queues by name."""
        part, token = page(self.store.queues(), request.page_size, request.page_token, LARGEST_PAGE)
        return api.ListQueuesResponse(queues=part, next_page_token=token)

    def pause_queue(self, request: api.PauseQueueRequest, caller: str) -> api.Queue:
        """Stop dispatching; tasks may still be added, and what is in flight ends."""
        self.store.set_state(self._queue(request.name).name, PAUSED)
        return self._queue(request.name)

    def resume_queue(self, request: api.ResumeQueueRequest, caller: str) -> api.Queue:
        """Dispatch again."""
        self.store.set_state(self._queue(request.name).name, RUNNING)
        self.dispatcher.changed.set()
        return self._queue(request.name)

    def purge_queue(self, request: api.PurgeQueueRequest, caller: str) -> api.Queue:
        """Delete all tasks of the queue at once."""
        self.store.purge(self._queue(request.name).name, time.time())
        return self._queue(request.name)

    def create_task(self, request: api.CreateTaskRequest, caller: str) -> api.Task:
        """Accept a task: once this answers, it is on disk and will be delivered at least once."""
        queue = self._queue(request.parent)
        self._check(caller, queue.name, request.task)
        task = complete_task(request.task, queue.name)
        due = api.Task.pb(task).schedule_time.ToMicroseconds() / 1e6
        if not self.store.create(task, queue.name, due, time.time()):
            raise Failure(grpc.StatusCode.ALREADY_EXISTS, "Requested entity already exists")
        self.dispatcher.changed.set()
        return shown(self._task(task.name), request.response_view)

    def get_task(self, request: api.GetTaskRequest, caller: str) -> api.Task:
        """One task that is scheduled or in flight."""
        return shown(self._task(request.name), request.response_view)

    def list_tasks(self, request: api.ListTasksRequest, caller: str) -> api.ListTasksResponse:
        """The tasks of a queue that are scheduled or in flight."""
        records = self.store.tasks(self._queue(request.parent).name)
        part, token = page(records, request.page_size, request.page_token, LARGEST_PAGE)
        tasks = [shown(record, request.response_view) for record in part]
        return api.ListTasksResponse(tasks=tasks, next_page_token=token)

    def delete_task(self, request: api.DeleteTaskRequest, caller: str) -> Empty:
        """Delete a task; an attempt that is in flight ends without a retry."""
        self.store.finish(self._task(request.name).name, time.time())
        return Empty()

    def _check(self, caller: str, queue: str, task: api.Task) -> None:
        """Enqueuer of the queue; and who lets a task carry an account's tokens must be allowed to act as it."""
        if not grants.may_enqueue(caller, queue.rpartition("/")[2]):
            raise denied(caller, "cloudtasks.tasks.create", queue)
        kind = api.Task.pb(task).http_request.WhichOneof("authorization_header")
        carried = getattr(task.http_request, kind).service_account_email if kind else CARRIED
        if caller in grants.known() and carried != CARRIED:
            raise denied(caller, "iam.serviceAccounts.actAs", carried)

    def _queue(self, name: str) -> api.Queue:
        queue = self.store.queue(queue_name(name))
        if queue is None:
            raise Failure(grpc.StatusCode.NOT_FOUND, "Queue does not exist.")
        return queue

    def _task(self, name: str) -> Record:
        queue_name(name.rpartition("/tasks/")[0])
        record = self.store.task(name)
        if record is None:
            raise Failure(grpc.StatusCode.NOT_FOUND, "The task does not exist, or was executed or deleted.")
        return record


def denied(caller: str, permission: str, resource: str) -> Failure:
    """PERMISSION_DENIED."""
    grants.refuse(caller, permission, resource)
    message = f'The principal lacks IAM permission "{permission}" for the resource "{resource}" (or it may not exist).'
    return Failure(grpc.StatusCode.PERMISSION_DENIED, message)


def enqueuers_only(permission: str, method: Any) -> Any:
    """A method that the stack's own accounts have no right to."""

    def checked(request: Any, caller: str) -> Any:
        if caller in grants.known():
            raise denied(caller, permission, str(getattr(request, "name", "") or request.parent))
        return method(request, caller)

    return checked


def shown(record: Record, view: int) -> api.Task:
    """A task as the API shows it: without its body unless the view is FULL."""
    task: api.Task = api.Task.deserialize(record.body)
    full = view == api.Task.View.FULL
    message = api.Task.pb(task)
    message.view = api.Task.View.FULL if full else api.Task.View.BASIC
    if not full:
        message.http_request.ClearField("body")
    task.schedule_time = stamp(record.scheduled)
    task.dispatch_count, task.response_count = record.dispatches, record.responses
    if record.first_dispatch is not None:
        task.first_attempt = api.Attempt(dispatch_time=stamp(record.first_dispatch))
    if record.last_dispatch is not None:
        last = api.Attempt(schedule_time=stamp(record.scheduled), dispatch_time=stamp(record.last_dispatch))
        if record.last_response is not None and record.last_code is not None:
            last.response_time = stamp(record.last_response)
            last.response_status = rpc_status(record.last_code)  # proto-plus makes the message
        task.last_attempt = last
    return task


def configured(path: Path) -> list[api.Queue]:
    """The queues of queues.yaml."""
    queues = []
    for name, entry in yaml.safe_load(path.read_text())["queues"].items():
        retry = api.RetryConfig(
            min_backoff=seconds(entry["min_backoff"]),
            max_backoff=seconds(entry["max_backoff"]),
            max_doublings=entry["max_doublings"],
            max_attempts=entry["max_attempts"],
        )
        limits = api.RateLimits(max_dispatches_per_second=entry["rate"], max_concurrent_dispatches=entry["concurrency"])
        queue = api.Queue(name=f"{LOCATION}/queues/{name}", rate_limits=limits, retry_config=retry)
        queues.append(complete_queue(queue))
    return queues


def handlers(issuer: Issuer, tasks: Tasks) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """The service's methods by name."""
    methods: dict[str, tuple[Any, ...]] = {
        "CreateQueue": (tasks.create_queue, api.CreateQueueRequest, api.Queue),
        "GetQueue": (tasks.get_queue, api.GetQueueRequest, api.Queue),
        "ListQueues": (tasks.list_queues, api.ListQueuesRequest, api.ListQueuesResponse),
        "PauseQueue": (tasks.pause_queue, api.PauseQueueRequest, api.Queue),
        "ResumeQueue": (tasks.resume_queue, api.ResumeQueueRequest, api.Queue),
        "PurgeQueue": (tasks.purge_queue, api.PurgeQueueRequest, api.Queue),
        "CreateTask": (tasks.create_task, api.CreateTaskRequest, api.Task),
        "GetTask": (tasks.get_task, api.GetTaskRequest, api.Task),
        "ListTasks": (tasks.list_tasks, api.ListTasksRequest, api.ListTasksResponse),
        "DeleteTask": (tasks.delete_task, api.DeleteTaskRequest),
    }
    others = {name: f"cloudtasks.{name}" for name in methods if name != "CreateTask"}
    return {
        name: guarded(issuer, enqueuers_only(others[name], method) if name in others else method, *parts)
        for name, (method, *parts) in methods.items()
    }


async def serve(layout: Layout, queues: Path) -> None:
    """Answer and deliver until asked to stop."""
    issuer = Issuer(layout.root)
    store = TaskStore(layout.root, time.time())
    for queue in configured(queues):
        store.set_queue(queue)
    dispatcher = Dispatcher(store, issuer)
    async with rpc(layout, layout.ports["tasks"], SERVICE, handlers(issuer, Tasks(store, dispatcher))):
        running = asyncio.create_task(dispatcher.run())
        ending = asyncio.create_task(stopped())
        await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def main() -> None:
    """Read the arguments and serve."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--queues", type=Path, default=QUEUES, help="YAML file of the queues")
    given = parser.parse_args()
    asyncio.run(serve(given.layout, given.queues))


if __name__ == "__main__":
    main()
