"""The storage stand-in keeps Bucket Lock's promises, as Google's own client sees them."""

import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed
from google.cloud import storage
from google.oauth2.credentials import Credentials

from local.identity import Issuer
from local.layout import PROJECT, Layout, service_account
from local.storage import buckets
from local.storage.conditions import Conditions
from local.storage.sessions import Sessions
from local.storage.store import Draft, Store

DAY = 86_400


@pytest.fixture
def client(layout: Layout, start: Any) -> Iterator[storage.Client]:
    token = Issuer(layout.root).access_token(service_account("tester"))
    options = {"api_endpoint": layout.url("storage")}
    with start("local.storage", layout, "storage"):
        yield storage.Client(project=PROJECT, credentials=Credentials(token), client_options=options)


def with_policy(client: storage.Client, name: str, seconds: int, *, locked: bool = False) -> storage.Bucket:
    bucket = client.bucket(name)
    bucket.retention_period = seconds
    bucket = client.create_bucket(bucket)
    if locked:
        bucket.lock_retention_policy()
    return bucket


def told(error: pytest.ExceptionInfo[Forbidden]) -> str:
    return f"{error.value} {error.value.errors}"  # an upload's error is not taken apart by the client


def test_the_bucket_of_anchors_is_locked_from_the_start(client: storage.Client) -> None:
    bucket = client.get_bucket(buckets.ANCHORS)

    assert bucket.retention_policy_locked is True
    assert bucket.retention_period == 400 * DAY
    assert datetime.now(UTC) - bucket.retention_policy_effective_time < timedelta(minutes=1)
    assert [rule["condition"] for rule in bucket.lifecycle_rules] == [{"age": 400}]


def test_a_young_object_stays_as_it_is(client: storage.Client) -> None:
    bucket = with_policy(client, "kept-for-an-hour", 3600)
    bucket.blob("a").upload_from_string(b"1")
    bucket.blob("b").upload_from_string(b"2")

    acts = [
        lambda: bucket.blob("a").delete(),
        lambda: bucket.blob("a").upload_from_string(b"2"),
        lambda: bucket.blob("a", chunk_size=256 * 1024).upload_from_file(io.BytesIO(b"2")),
        lambda: bucket.blob("a").compose([bucket.blob("b")]),
        lambda: bucket.blob("a").rewrite(bucket.blob("b")),
        lambda: bucket.copy_blob(bucket.blob("b"), bucket, "a"),
    ]
    for act in acts:
        with pytest.raises(Forbidden) as error:
            act()
        assert "retentionPolicyNotMet" in told(error)
    with pytest.raises(PreconditionFailed):  # what was asked for comes before what is allowed
        bucket.blob("a").upload_from_string(b"2", if_generation_match=0)
    found = bucket.get_blob("a")
    assert found.download_as_bytes() == b"1"
    assert found.retention_expiration_time == found.time_created + timedelta(hours=1)
    found.metadata = {"seen": "yes"}
    found.patch()
    assert bucket.get_blob("a").metadata == {"seen": "yes"}
    bucket.blob("c").compose([bucket.blob("a"), bucket.blob("b")])
    with pytest.raises(Conflict):
        bucket.delete()


def test_a_policy_counts_for_what_was_there_before_and_ends(client: storage.Client) -> None:
    bucket = client.create_bucket("later")
    bucket.blob("a").upload_from_string(b"1")
    assert bucket.get_blob("a").retention_expiration_time is None
    bucket.retention_period = 2
    bucket.patch()
    with pytest.raises(Forbidden):
        bucket.blob("a").delete()

    deadline = time.monotonic() + 10
    while bucket.get_blob("a"):
        try:
            bucket.blob("a").delete()
        except Forbidden:
            assert time.monotonic() < deadline
    bucket.delete()
    with pytest.raises(NotFound):
        client.get_bucket("later")


def test_a_locked_policy_only_grows(client: storage.Client) -> None:
    bucket = with_policy(client, "locked-for-ever", DAY, locked=True)
    assert client.get_bucket(bucket.name).retention_policy_locked is True

    for period in (DAY - 1, None):
        bucket.retention_period = period
        with pytest.raises(Forbidden):
            bucket.patch()
    with pytest.raises(Forbidden):
        bucket.update()
    bucket.reload()
    assert (bucket.retention_period, bucket.retention_policy_locked) == (DAY, True)
    bucket.retention_period = DAY + 1
    bucket.patch()
    found = client.get_bucket(bucket.name)
    assert (found.retention_period, found.retention_policy_locked) == (DAY + 1, True)


def test_an_open_policy_may_be_changed_and_removed(client: storage.Client) -> None:
    bucket = with_policy(client, "not-locked", DAY)
    bucket.retention_period = 60
    bucket.patch()
    assert client.get_bucket(bucket.name).retention_period == 60
    bucket.retention_period = None
    bucket.patch()
    found = client.get_bucket(bucket.name)
    assert (found.retention_period, found.metageneration) == (None, 3)
    for period in (0, 3_155_760_000):
        bucket.retention_period = period
        with pytest.raises(BadRequest):
            bucket.patch()


def test_a_lock_names_the_state_that_it_locks(client: storage.Client, layout: Layout) -> None:
    bucket = with_policy(client, "raced", DAY)
    other = client.get_bucket(bucket.name)
    other.labels = {"changed": "meanwhile"}
    other.patch()
    with pytest.raises(PreconditionFailed):
        bucket.lock_retention_policy()
    url = f"{layout.url('storage')}/storage/v1/b/raced/lockRetentionPolicy"
    token = Issuer(layout.root).access_token(service_account("tester"))
    assert requests.post(url, headers={"Authorization": f"Bearer {token}"}, timeout=5).status_code == 400
    assert requests.post(url, timeout=5).status_code == 401
    assert client.get_bucket(bucket.name).retention_policy_locked is None
    client.create_bucket("without")
    without = {"Authorization": f"Bearer {token}"}
    url = f"{layout.url('storage')}/storage/v1/b/without/lockRetentionPolicy?ifMetagenerationMatch=1"
    assert requests.post(url, headers=without, timeout=5).status_code == 400


def test_the_lifecycle_waits_for_the_retention(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rule = {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 1}}]}}
    policy = {"retentionPolicy": {"retentionPeriod": str(2 * DAY)}}
    for name, resource in (("free", rule), ("kept", rule | policy)):
        store.insert_bucket(name, buckets.new_bucket(name, resource))
        for days in (1, 2):
            draft = tmp_path / f"{name}-{days}"
            draft.write_bytes(b"1")
            store.put(name, f"{days} days", {}, Draft(draft, 1, "", ""), Conditions())
            made = (datetime.now(UTC) - timedelta(days=days, minutes=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            with store.transaction():
                store.database.execute(
                    "UPDATE objects SET created = ? WHERE bucket = ? AND name = ?", (made, name, f"{days} days")
                )

    buckets.sweep(store, Sessions(store))

    assert store.find("free", "1 days") is None
    assert store.find("kept", "1 days") is not None
    assert store.find("kept", "2 days") is None
