"""The outbox: a message is a row of the change's own transaction, and becomes a Cloud Task once that has committed."""

import json
import threading
import uuid
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from common import log, tracing
from common.settings import settings
from common.wire import Step

SEND_SECONDS = 1.0


@dataclass(frozen=True)
class Message:
    """`kind` mail or sms: `name` is its purpose, `reference` a person's row; `kind` workflow: its name and the job."""

    kind: str
    name: str
    reference: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    task_name: str = field(default_factory=lambda: uuid.uuid4().hex)
    delay_seconds: int = 0
    traceparent: str | None = field(default_factory=tracing.traceparent)

    def insert(self) -> Step:
        """The statement that writes the row."""
        return Step(
            """
            INSERT INTO platform.outbox (id, kind, name, reference, task_name, not_before, traceparent)
            VALUES (:id, :kind, :name, :reference, :task_name, now() + make_interval(secs => :delay), :traceparent)
            """,
            {
                "id": self.id,
                "kind": self.kind,
                "name": self.name,
                "reference": self.reference,
                "task_name": self.task_name,
                "delay": self.delay_seconds,
                "traceparent": self.traceparent,
            },
        )


def task(message: Message) -> dict[str, Any]:
    """The Cloud Task of a message; its random name makes a second creation harmless (ALREADY_EXISTS)."""
    known = settings()
    path = {"mail": "mails", "sms": "sms"}.get(message.kind)  # of the auth service; a workflow is started directly
    queue = known.mails_queue if path else known.tasks_queue
    parent = f"projects/{known.project_id}/locations/{known.region}/queues/{queue}"
    trace = {"traceparent": message.traceparent} if message.traceparent else {}
    if path:
        request: dict[str, Any] = {
            "url": f"{known.auth_url}/internal/{path}/{message.id}",
            "oidc_token": {"service_account_email": known.tasks_account, "audience": known.auth_url},
            "body": b"{}",
        }
    else:
        workflow = f"projects/{known.project_id}/locations/{known.region}/workflows/{message.name}"
        request = {
            "url": f"{known.workflows_endpoint}/v1/{workflow}/executions",
            "oauth_token": {"service_account_email": known.tasks_account},
            "body": json.dumps({"argument": json.dumps({"request_id": message.reference, "headers": trace})}).encode(),
        }
    request |= {"http_method": "POST", "headers": {"Content-Type": "application/json", **trace}}
    return {"parent": parent, "task": {"name": f"{parent}/tasks/{message.task_name}", "http_request": request}}


def create_task(message: Message) -> None:
    """Hand the message to Cloud Tasks; a task of that name that exists already is success."""
    from google.api_core.exceptions import AlreadyExists  # noqa: PLC0415 - 300 ms of gRPC, only where it is used

    try:
        with tracing.following(message.traceparent, f"send {message.kind}", {"context.outbox.kind": message.kind}):
            _client().create_task(task(message), timeout=SEND_SECONDS, retry=None)
    except AlreadyExists:
        log.entry("INFO", "the task exists already", message_id=message.id)


@cache
def _client():  # type: ignore[no-untyped-def]
    from google.cloud import tasks_v2  # noqa: PLC0415

    return tasks_v2.CloudTasksClient(client_options={"api_endpoint": settings().cloudtasks_endpoint})


def send_now(messages: list[Message], mark: Any) -> None:
    """Send what was just committed, for SEND_SECONDS at most; what fails or lasts is the drainer's.

    `mark(message)` records that it was sent.
    """

    def send() -> None:
        for message in messages:
            if message.delay_seconds:
                continue  # the drainer's, when its time has come
            try:
                create_task(message)
                mark(message)
            except Exception as error:  # noqa: BLE001 - whatever fails here, the row is still there
                log.entry(
                    "WARNING", "a message waits for the drainer", message_id=message.id, error=type(error).__name__
                )

    thread = threading.Thread(target=tracing.carried(send), daemon=True)
    thread.start()
    thread.join(SEND_SECONDS)
