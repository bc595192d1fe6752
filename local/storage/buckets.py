"""Buckets: insert, get, list; and the lifecycle rule by age."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from local.layout import PROJECT
from local.storage.call import Call
from local.storage.problems import Problem, invalid
from local.storage.schema import now
from local.storage.sessions import Sessions
from local.storage.store import Store

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
KEPT = ["lifecycle", "labels", "iamConfiguration", "encryption", "cors", "retentionPolicy", "storageClass", "location"]
SESSION_DAYS = 7
EXPORTS, LEDGER = f"{PROJECT}-exports", f"{PROJECT}-ledger"
EXPORT_DAYS, LEDGER_DAYS = 7, 1095


def new_bucket(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The resource of a new bucket. Soft delete is always 0: what is deleted here is gone. Raises Problem 400."""
    if not NAME.fullmatch(name):
        raise invalid(f"Invalid bucket name: '{name}'")
    if int(asked.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)) or asked.get("versioning", {}).get(
        "enabled"
    ):
        raise invalid("This stand-in keeps no deleted or earlier versions.")
    at = now()
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
    }


def ensure(store: Store) -> None:
    """Make the buckets of the exports and of the ledger at the first start."""
    there = [bucket["name"] for bucket in store.buckets()]
    for name, days in ((EXPORTS, EXPORT_DAYS), (LEDGER, LEDGER_DAYS)):
        if name not in there:
            store.insert_bucket(name, new_bucket(name, _resource(days)))


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


async def list_all(call: Call) -> web.StreamResponse:
    """GET /storage/v1/b?project=&prefix="""
    if not call.query.get("project"):
        raise Problem(400, "required", "Required parameter: project")
    prefix = call.query.get("prefix", "")
    items = [bucket for bucket in call.store.buckets() if bucket["name"].startswith(prefix)]
    return web.json_response({"kind": "storage#buckets", "items": items})
