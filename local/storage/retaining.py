"""Bucket Lock: how long objects stay, whoever asks, and that a locked policy only grows.

Source: https://cloud.google.com/storage/docs/bucket-lock
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from local.storage.problems import Problem, invalid
from local.storage.schema import Stored, now

CENTURY = 3_155_760_000  # seconds: a policy is shorter than 100 years
FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def policy(asked: dict[str, Any]) -> dict[str, Any]:
    """The policy that a client asks for; since when it counts and whether it is locked, the server says."""
    period = str(asked.get("retentionPeriod", ""))
    if not period.isascii() or not period.isdigit() or not 0 < int(period) < CENTURY:
        raise invalid("The retention period must be greater than 0 and less than 100 years.")
    return {"retentionPeriod": period, "effectiveTime": now()}


def changed(bucket: dict[str, Any], asked: dict[str, Any] | None) -> dict[str, Any] | None:
    """The bucket's policy after a change; None removes it. Raises Problem 403 when a locked one would give way."""
    old = bucket.get("retentionPolicy", {})
    locked = old.get("isLocked", False)
    if asked is None:
        if locked:
            raise _fixed("remove", bucket)
        return None
    new = policy(asked)
    if locked and int(new["retentionPeriod"]) < int(old["retentionPeriod"]):
        raise _fixed("reduce retention duration of", bucket)
    if new["retentionPeriod"] == old.get("retentionPeriod"):
        return dict(old)
    return {**new, "isLocked": True} if locked else new


def locked(bucket: dict[str, Any]) -> dict[str, Any]:
    """The bucket's policy, locked for ever. Raises Problem 400 without one."""
    if "retentionPolicy" not in bucket:
        raise invalid(f"Bucket '{bucket['name']}' has no retention policy to lock.")
    return {**bucket["retentionPolicy"], "isLocked": True}


def until(bucket: dict[str, Any], stored: Stored) -> str | None:
    """Until when an object stays, as the API writes times; None where nothing retains it."""
    if "retentionPolicy" not in bucket:
        return None
    created = datetime.strptime(stored.created, FORMAT).replace(tzinfo=UTC)
    return (created + timedelta(seconds=int(bucket["retentionPolicy"]["retentionPeriod"]))).strftime(FORMAT)


def retained(bucket: dict[str, Any], stored: Stored) -> bool:
    """Whether nobody may delete or replace the object yet."""
    end = until(bucket, stored)
    return end is not None and now() < end


def check(bucket: dict[str, Any], stored: Stored) -> None:
    """Raise Problem 403 for an object that has to stay."""
    if retained(bucket, stored):
        message = (
            f"Object '{stored.bucket}/{stored.name}' is subject to bucket's retention policy or object retention "
            f"and cannot be deleted or overwritten until {until(bucket, stored)}"
        )
        raise Problem(403, "retentionPolicyNotMet", message)


def _fixed(act: str, bucket: dict[str, Any]) -> Problem:
    return Problem(403, "forbidden", f"Cannot {act} a locked Retention Policy for bucket '{bucket['name']}'.")
