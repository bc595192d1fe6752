"""Buckets: insert, get, list, change, lock, delete; and the lifecycle rule by age."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from local.layout import PROJECT
from local.storage import retaining
from local.storage.call import Call
from local.storage.problems import Problem, invalid
from local.storage.schema import now
from local.storage.sessions import Sessions
from local.storage.store import Store

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
KEPT = ["lifecycle", "labels", "iamConfiguration", "encryption", "cors", "storageClass", "location"]
POLICY = "retentionPolicy"
SESSION_DAYS = 7
EXPORTS, LEDGER, ANCHORS = f"{PROJECT}-exports", f"{PROJECT}-ledger", f"{PROJECT}-anchors"
EXPORT_DAYS, LEDGER_DAYS, ANCHOR_DAYS = 7, 1095, 400


def new_bucket(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The resource of a new bucket. Soft delete is always 0: what is deleted here is gone. Raises Problem 400."""
    if not NAME.fullmatch(name):
        raise invalid(f"Invalid bucket name: '{name}'")
    if int(asked.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)) or asked.get("versioning", {}).get(
        "enabled"
    ):
        raise invalid("This stand-in keeps no deleted or earlier versions.")
    at = now()
    retention = {POLICY: retaining.policy(asked[POLICY])} if asked.get(POLICY) is not None else {}
    return {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "projectNumber": "0",
        "metageneration": "1",
        "location": "US",
        "storageClass": "STANDARD",
        "timeCreated": at,
        "updated": at,
        "etag": "CAE=",
        "softDeletePolicy": {"retentionDurationSeconds": "0", "effectiveTime": at},
        **{key: asked[key] for key in KEPT if key in asked},
        **retention,
    }


def ensure(store: Store) -> None:
    """Make the buckets of the exports, the ledger and the anchors at the first start, the last one locked."""
    there = [bucket["name"] for bucket in store.buckets()]
    for name, days in ((EXPORTS, EXPORT_DAYS), (LEDGER, LEDGER_DAYS), (ANCHORS, ANCHOR_DAYS)):
        if name in there:
            continue
        made = new_bucket(name, _resource(days))
        if name == ANCHORS:
            period = timedelta(days=days) // timedelta(seconds=1)
            made |= {POLICY: retaining.policy({"retentionPeriod": str(period)}) | {"isLocked": True}}
        store.insert_bucket(name, made)


def _resource(days: int) -> dict[str, Any]:
    return {
        "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": days}}]},
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
        "location": "EUROPE-WEST1",
    }


def sweep(store: Store, sessions: Sessions, at: datetime | None = None) -> None:
    """Apply each bucket's lifecycle rules (Delete by age, in days) and end old resumable sessions."""
    today = at or datetime.now(UTC)
    for bucket in store.buckets():
        for rule in bucket.get("lifecycle", {}).get("rule", []):
            if rule["action"]["type"] == "Delete" and set(rule["condition"]) == {"age"}:
                store.expire(bucket["name"], (today - timedelta(days=int(rule["condition"]["age"]))).isoformat())
    sessions.expire((today - timedelta(days=SESSION_DAYS)).isoformat())


async def insert(call: Call) -> web.StreamResponse:
    """POST /storage/v1/b?project="""
    asked = await call.json()
    if not call.query.get("project"):
        raise Problem(400, "required", "Required parameter: project")
    name = str(asked.get("name", ""))
    await asyncio.to_thread(call.store.insert_bucket, name, new_bucket(name, asked))
    return web.json_response(call.store.bucket(name))


async def get(call: Call) -> web.StreamResponse:
    """GET /storage/v1/b/{bucket}"""
    return web.json_response(call.store.bucket(call.names[0]))


async def patch(call: Call) -> web.StreamResponse:
    """PATCH or PUT /storage/v1/b/{bucket}: what is not named stays; null removes it."""
    asked = await call.json()

    def merged(bucket: dict[str, Any]) -> dict[str, Any]:
        given = {key: asked[key] for key in KEPT if key in asked}
        if POLICY in asked:
            given[POLICY] = retaining.changed(bucket, asked[POLICY])
        return {key: value for key, value in {**bucket, **given}.items() if value is not None}

    return await _changed(call, merged)


async def lock(call: Call) -> web.StreamResponse:
    """POST /storage/v1/b/{bucket}/lockRetentionPolicy?ifMetagenerationMatch="""
    if call.conditions.metageneration is None:
        raise Problem(400, "required", "Required parameter: ifMetagenerationMatch")
    return await _changed(call, lambda bucket: {**bucket, POLICY: retaining.locked(bucket)})


async def _changed(call: Call, change: Callable[[dict[str, Any]], dict[str, Any]]) -> web.StreamResponse:
    changed = await asyncio.to_thread(call.store.patch_bucket, call.names[0], call.conditions, change)
    return web.json_response(changed)


async def delete(call: Call) -> web.StreamResponse:
    """DELETE /storage/v1/b/{bucket}: an empty one; so one whose objects are retained stays as long as they do."""
    await asyncio.to_thread(call.store.delete_bucket, call.names[0], call.conditions)
    return web.Response(status=204)


async def list_all(call: Call) -> web.StreamResponse:
    """GET /storage/v1/b?project=&prefix="""
    if not call.query.get("project"):
        raise Problem(400, "required", "Required parameter: project")
    prefix = call.query.get("prefix", "")
    items = [bucket for bucket in call.store.buckets() if bucket["name"].startswith(prefix)]
    return web.json_response({"kind": "storage#buckets", "items": items})
