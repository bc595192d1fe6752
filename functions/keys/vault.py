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
    """A version: `created_at` in Unix seconds, `state` as ENABLED, DISABLED or DESTROYED."""

    number: int
    state: str
    created_at: float


class Vault:
    """The secrets of one project, by Google's client."""

    def __init__(self, client: Any, project: str) -> None:
        self._client, self._project = client, project

    def newest(self, id: str) -> tuple[int, Ring]:
        """Number and content of the most recent version."""
        return self.read(id, "latest")

    def read(self, id: str, version: int | str) -> tuple[int, Ring]:
        """Number and content of a version. Raises GoogleAPIError for one that is not there or not enabled."""
        answer = self._client.access_secret_version(name=f"{self._path(id)}/versions/{version}")
        ring: Ring = json.loads(answer.payload.data)
        return _number(answer.name), ring

    def add(self, id: str, ring: Ring, after: int) -> int:
        """Add the version that follows number `after`. Raises Overtaken when that is not the most recent one.

        Secret Manager has no condition for this call: between the look and the act lies a moment, and whoever comes
        second in it is told afterwards. The next run finds the newest version and goes on from there.
        """
        if self._versions(id)[0].number != after:
            raise Overtaken(id)
        payload = {"data": json.dumps(ring).encode()}
        added = _number(self._client.add_secret_version(parent=self._path(id), payload=payload).name)
        if added != after + 1:
            raise Overtaken(id)
        return added

    def tidy(self, id: str, ring: Ring, now: int, keep_seconds: int) -> list[str]:
        """Disable versions that hold a key which `ring`, the present content, holds no more; destroy those disabled so.

        A disabled version stays for `keep_seconds` after the oldest enabled one was made: that version ended it. The
        most recent version is never touched: `latest` means that one, whatever its state.
        """
        _, *older = self._versions(id)
        done = []
        held = material(ring).items()
        for version in older:
            if version.state == "ENABLED" and not self._material(id, version.number).items() <= held:
                self._client.disable_secret_version(name=f"{self._path(id)}/versions/{version.number}")
                done.append(f"disabled version {version.number}")
        versions = self._versions(id)
        ended = min(version.created_at for version in versions if version.state == "ENABLED")
        for version in versions:
            if version.state == "DISABLED" and max(ended, version.created_at) + keep_seconds <= now:
                self._client.destroy_secret_version(name=f"{self._path(id)}/versions/{version.number}")
                done.append(f"destroyed version {version.number}")
        return done

    def _material(self, id: str, number: int) -> dict[str, Any]:
        """The keys of a version; of one that is no ring, something that no ring holds."""
        try:
            return material(self.read(id, number)[1])
        except (ValueError, LookupError, TypeError, AttributeError):
            return {"": None}

    def _versions(self, id: str) -> list[Version]:
        """Newest first."""
        listed = self._client.list_secret_versions(parent=self._path(id))
        return [Version(_number(each.name), each.state.name, each.create_time.timestamp()) for each in listed]

    def _path(self, id: str) -> str:
        return f"projects/{self._project}/secrets/{id}"


def _number(name: str) -> int:
    matched = re.search(r"/versions/(\d+)$", name)
    if matched is None:
        raise ValueError(f"{name} names no version")
    return int(matched[1])
