"""Health: alive without any dependency, ready when the database and the cache answer."""

from typing import TYPE_CHECKING, Any

from marshmallow import Schema, fields, validate

from common import cache, errors
from common.db import database
from common.settings import settings

if TYPE_CHECKING:
    from common.http import Call


CACHE_SECONDS = 1.0  # longer than that is no answer


class Alive(Schema):
    """The process runs."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


class Ready(Schema):
    """The database and the cache answer."""

    status = fields.String(required=True, validate=validate.Equal("ready"))
    checks = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


def alive(_call: "Call") -> dict[str, str]:
    """Say that the process runs; asks nothing else."""
    return {"status": "ok"}


def ready(_call: "Call") -> Any:
    """Say whether the database and the cache can be reached: 200, or 503 with which."""
    checks = {"database": _database(), "cache": _cache()}
    if all(checks.values()):
        return {"status": "ready", "checks": {name: "ok" for name in checks}}
    named = {name: "ok" if fine else "unreachable" for name, fine in checks.items()}
    raise errors.Problem("unavailable", extra={"checks": named}, headers={"Retry-After": "5"})


def _database() -> bool:
    try:
        database().ping()
    except errors.Problem:
        return False
    return True


def _cache() -> bool:
    if not settings().valkey_url:
        return True
    try:
        return bool(cache.client(CACHE_SECONDS).ping())
    except cache.failures():
        return False
