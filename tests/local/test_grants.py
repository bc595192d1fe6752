"""The stand-ins refuse a service what the catalog does not give it, as Google would."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.api_core.exceptions import PermissionDenied
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from local import grants
from local.identity import Issuer
from local.layout import PROJECT, REGION, Layout, catalog, service_account

QUEUES = f"projects/{PROJECT}/locations/{REGION}/queues"
BUCKET = f"{PROJECT}-"


class Storage:
    """Objects in the buckets of a stack, by the rights of any account."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __call__(self, account: str, method: str, path: str, **options: Any) -> int:
        token = Issuer(self.layout.root).access_token(service_account(account))
        url = self.layout.url("storage") + path
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(method, url, headers=headers, timeout=5, **options).status_code

    def put(self, account: str, bucket: str, name: str, **query: str) -> int:
        given = {"uploadType": "media", "name": name, **query}
        return self(account, "POST", f"/upload/storage/v1/b/{BUCKET}{bucket}/o", params=given, data=b"x")

    def get(self, account: str, bucket: str, name: str) -> int:
        return self(account, "GET", f"/storage/v1/b/{BUCKET}{bucket}/o/{name}")

    def list(self, account: str, bucket: str) -> int:
        return self(account, "GET", f"/storage/v1/b/{BUCKET}{bucket}/o")

    def delete(self, account: str, bucket: str, name: str) -> int:
        return self(account, "DELETE", f"/storage/v1/b/{BUCKET}{bucket}/o/{name}")


@pytest.fixture(scope="module")
def storage(shared_layout: Layout, start: Any) -> Iterator[Storage]:
    with start("local.storage", shared_layout, "storage"):
        yield Storage(shared_layout)


def outcomes(storage: Storage, account: str, bucket: str) -> dict[str, bool]:
    """What an account may do with an object that is there."""
    name = uuid.uuid4().hex
    assert storage.put("tester", bucket, name) == 200
    found = {
        "create": storage.put(account, bucket, uuid.uuid4().hex),
        "get": storage.get(account, bucket, name),
        "list": storage.list(account, bucket),
        "overwrite": storage.put(account, bucket, name),
        "delete": storage.delete(account, bucket, name),
    }
    assert set(found.values()) <= {200, 204, 403}
    return {what: status != 403 for what, status in found.items()}


MANAGES, READS = {"create", "get", "list", "overwrite", "delete"}, {"get", "list"}


@pytest.mark.parametrize(
    ("account", "bucket", "allowed"),
    [
        ("exports-jobs", "exports", MANAGES),
        ("exports", "exports", READS),
        ("retention", "exports", {"list", "delete"}),
        ("deletions-jobs", "exports", {"list", "delete"}),
        ("deletions-jobs", "ledger", {"create", *READS}),
        ("operator", "ledger", READS),
        ("deletions", "ledger", set()),
        ("projects", "exports", set()),
        ("scheduler", "exports", set()),
    ],
)
def test_objects_of_a_bucket(storage: Storage, account: str, bucket: str, allowed: set[str]) -> None:
    assert {what for what, may in outcomes(storage, account, bucket).items() if may} == allowed


def test_who_creates_and_does_not_delete_writes_over_nothing_whatever_the_precondition(storage: Storage) -> None:
    name = uuid.uuid4().hex
    assert storage.put("deletions-jobs", "ledger", name, ifGenerationMatch="0") == 200
    assert storage.put("deletions-jobs", "ledger", name, ifGenerationMatch="0") == 403
    assert storage.put("exports-jobs", "exports", name, ifGenerationMatch="0") == 200
    assert storage.put("exports-jobs", "exports", name, ifGenerationMatch="0") == 412


@pytest.mark.parametrize("account", ["exports-jobs", "retention", "operator"])
def test_buckets_themselves_are_nobodys(storage: Storage, account: str) -> None:
    path = f"/storage/v1/b/{BUCKET}exports"
    assert storage(account, "GET", path) == storage(account, "DELETE", path) == 403
    assert storage(account, "PATCH", path, json={"lifecycle": None}) == 403
    assert storage(account, "GET", f"/storage/v1/b?project={PROJECT}") == 403


@pytest.fixture(scope="module")
def create(shared_layout: Layout, start: Any, shared_channel: Any) -> Iterator[Any]:
    def task(account: str, queue: str, carried: str) -> None:
        channel = shared_channel("tasks", service_account(account))
        client = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        token = {"service_account_email": service_account(carried)}
        request = {"url": "http://127.0.0.1:9/", "oauth_token": token}
        client.create_task({"parent": f"{QUEUES}/{queue}", "task": {"http_request": request}})

    with start("local.tasks", shared_layout, "tasks"):
        yield task


@pytest.mark.parametrize("account", [*catalog(), "tasks", "operator"])
@pytest.mark.parametrize("queue", ["jobs", "mails"])
def test_who_fills_which_queue(create: Any, account: str, queue: str) -> None:
    if queue in catalog().get(account, {}).get("queues", ()):
        create(account, queue, "tasks")
    else:
        with pytest.raises(PermissionDenied):
            create(account, queue, "tasks")


@pytest.mark.parametrize("carried", ["scheduler", "keys", "exports"])
def test_a_task_carries_the_tokens_of_the_tasks_account_alone(create: Any, carried: str) -> None:
    with pytest.raises(PermissionDenied):
        create("exports", "jobs", carried)


def test_a_refusal_stands_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    grants.refuse("someone", "something", "somewhere")
    assert '"denied by IAM"' in capsys.readouterr().err
