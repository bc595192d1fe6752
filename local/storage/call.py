"""What every handler of the storage stand-in gets, and the JSON forms of what it answers."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import web

from local import grants
from local.layout import PROJECT
from local.storage import retaining
from local.storage.conditions import Conditions
from local.storage.problems import Problem, invalid
from local.storage.schema import Stored
from local.storage.sessions import Sessions
from local.storage.store import Store


@dataclass(frozen=True)
class Call:
    """One request: `names` are the decoded parts of its path, `caller` the e-mail of who asks or has signed."""

    request: web.Request
    store: Store
    sessions: Sessions
    names: tuple[str, ...]
    caller: str = ""

    def check(self, permission: str, bucket: str) -> None:
        """The caller's right to the objects of a bucket (get, list, create, update, delete). Raises Problem 403."""
        if not self._may(permission, bucket):
            raise denied(self.caller, f"storage.objects.{permission}", bucket)

    def check_new(self, bucket: str, name: str) -> None:
        """Who writes over an object deletes it: that takes the right too, whatever the precondition says. Raises 403.

        No line in the log: that a name is taken says nothing of what the catalog should grant.
        """
        if self.store.find(bucket, name) is not None and not self._may("delete", bucket):
            raise forbidden(self.caller, "storage.objects.delete")

    def _may(self, permission: str, bucket: str) -> bool:
        return grants.may_touch(self.caller, bucket.removeprefix(f"{PROJECT}-"), permission)

    @property
    def pair(self) -> tuple[str, str]:
        """Bucket and object of the path."""
        bucket, name = self.names
        return bucket, name

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters, decoded."""
        return self.request.query

    @property
    def origin(self) -> str:
        """The address under which the client reached us."""
        return f"{self.request.scheme}://{self.request.host}"

    @property
    def conditions(self) -> Conditions:
        """The preconditions of the query."""
        return Conditions.of(self.query)

    @property
    def generation(self) -> int | None:
        """The generation that the query names. Raises Problem 400."""
        return generation_of(self.query)

    async def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty is {}. Raises Problem 400."""
        body = await self.request.read()
        try:
            value = json.loads(body) if body else {}
        except ValueError as error:
            raise invalid("Parse Error") from error
        if not isinstance(value, dict):
            raise invalid("Parse Error")
        return value

    def resource(self, stored: Stored) -> dict[str, Any]:
        """The object resource of the JSON API."""
        end = retaining.until(self.store.bucket(stored.bucket), stored)
        return object_resource(stored, self.origin) | ({"retentionExpirationTime": end} if end else {})


def denied(caller: str, permission: str, resource: str) -> Problem:
    """403, and a line in the log."""
    grants.refuse(caller, permission, resource)
    return forbidden(caller, permission)


def forbidden(caller: str, permission: str) -> Problem:
    """403 as Google words it."""
    message = f"{caller} does not have {permission} access to the Google Cloud Storage resource."
    return Problem(403, "forbidden", message)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def generation_of(query: Mapping[str, str]) -> int | None:
    """`generation` of a query. Raises Problem 400."""
    value = query.get("generation")
    if value is None:
        return None
    if not value.isascii() or not value.isdigit():
        raise invalid(f"Invalid generation: {value!r}")
    return int(value)


def object_resource(stored: Stored, origin: str) -> dict[str, Any]:
    """`storage#object`: numbers of 64 bits are strings, as in every Google JSON API."""
    path = f"storage/v1/b/{stored.bucket}/o/{quote(stored.name, safe='')}"
    resource: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{origin}/{path}",
        "mediaLink": f"{origin}/download/{path}?generation={stored.generation}&alt=media",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "contentType": "application/octet-stream",
        "storageClass": "STANDARD",
        "size": str(stored.size),
        "crc32c": stored.crc32c,
        "etag": stored.etag,
        "timeCreated": stored.created,
        "updated": stored.updated,
        "timeStorageClassUpdated": stored.created,
        "timeFinalized": stored.created,
        **stored.meta,
    }
    if stored.components:
        return {**resource, "componentCount": stored.components}
    return {**resource, "md5Hash": stored.md5}
