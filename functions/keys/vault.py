"""Secret Manager as the rotation needs it: the newest version of a ring, the next one, and the end of old ones."""

import json
import re
from dataclasses import dataclass
from typing import Any

from functions.keys.rings import Ring, material


class Overtaken(Exception):
    """Somebody else has added a version in the meantime: what was worked out is of yesterday."""


@dataclass(frozen=True)
class Version:
    """A version: `created_at` in Unix seconds, `state` as ENABLED, DISABLED or DESTROYED.

    `scheduled`: it is disabled because its destruction waits (`version_destroy_ttl` in Terraform). Asking again would
    make it wait anew.
    """

    number: int
    state: str
    created_at: float
    scheduled: bool = False


class Vault:
    """The secrets of one project, by Google's client."""

    def __init__(self, client: Any, project: str) -> None:
        self._client, self._project = client, project

    def newest(self, id: str) -> tuple[int, Ring]:
        """Number and content of the most recent version."""
        return self.read(id, "latest")

    def read(self, id: str, version: int | str) -> tuple[int, Ring]:
        """Number and content of a version. Raises GoogleAPIError for one that is not there or not enabled."""
        answer = self._access(id, version)
        ring: Ring = json.loads(answer.payload.data)
        return _number(answer.name), ring

    def payload(self, id: str, version: int | str) -> bytes:
        """Content of a version, a ring or not. Raises GoogleAPIError as `read` does."""
        return bytes(self._access(id, version).payload.data)

    def add(self, id: str, ring: Ring, after: int) -> int:
        """Add the version that follows number `after`. Raises Overtaken when that is not the most recent one.

        Secret Manager has no condition for this call: between the look and the act lies a moment, and whoever comes
        second in it is told afterwards. The next run finds the newest version and goes on from there.
        """
        if self.versions(id)[0].number != after:
            raise Overtaken(id)
        added = self.put(id, json.dumps(ring).encode())
        if added != after + 1:
            raise Overtaken(id)
        return added

    def put(self, id: str, payload: bytes) -> int:
        """Add a version, whatever is there; its number."""
        return _number(self._client.add_secret_version(parent=self._path(id), payload={"data": payload}).name)

    def versions(self, id: str) -> list[Version]:
        """Newest first."""
        listed = self._client.list_secret_versions(parent=self._path(id))
        return [_version(each) for each in listed]

    def tidy(self, id: str, ring: Ring, now: int, keep_seconds: int) -> list[str]:
        """Disable versions that hold a key which `ring`, the present content, holds no more; destroy those disabled so.

        A disabled version stays for `keep_seconds` after the oldest enabled one was made: that version ended it. The
        most recent version is never touched: `latest` means that one, whatever its state.
        """
        _, *older = self.versions(id)
        done = []
        held = material(ring).items()
        for version in older:
            if version.state == "ENABLED" and not self._material(id, version.number).items() <= held:
                self._client.disable_secret_version(name=f"{self._path(id)}/versions/{version.number}")
                done.append(f"disabled version {version.number}")
        versions = self.versions(id)
        ended = min(version.created_at for version in versions if version.state == "ENABLED")
        for version in versions:
            waits = version.state == "DISABLED" and not version.scheduled
            if waits and max(ended, version.created_at) + keep_seconds <= now:
                self._client.destroy_secret_version(name=f"{self._path(id)}/versions/{version.number}")
                done.append(f"destroyed version {version.number}")
        return done

    def _material(self, id: str, number: int) -> dict[str, Any]:
        """The keys of a version; of one that is no ring, something that no ring holds."""
        try:
            return material(self.read(id, number)[1])
        except (ValueError, LookupError, TypeError, AttributeError):
            return {"": None}

    def _access(self, id: str, version: int | str) -> Any:
        return self._client.access_secret_version(name=f"{self._path(id)}/versions/{version}")

    def _path(self, id: str) -> str:
        return f"projects/{self._project}/secrets/{id}"


def _version(listed: Any) -> Version:
    scheduled = bool(listed.scheduled_destroy_time)
    return Version(_number(listed.name), listed.state.name, listed.create_time.timestamp(), scheduled)


def _number(name: str) -> int:
    matched = re.search(r"/versions/(\d+)$", name)
    if matched is None:
        raise ValueError(f"{name} names no version")
    return int(matched[1])
