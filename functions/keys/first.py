"""The first versions of the secrets that we make ourselves: `python -m functions.keys.first`, before anything runs.

It needs Secret Manager and Cloud KMS, no database. What has a version already stays as it is, so it can be run again.
Two runs at once may both add a first version, since Secret Manager has no condition for that call. Then the older one
counts: whoever came second puts it in front again, with its own keys behind, for those who read in that moment.
"""

import json
import secrets as random
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from common import errors, kms, secrets
from common.settings import settings
from common.tokens import SIGNING_RING, VERIFYING_RING
from functions.keys import policies, rings, wrapping
from functions.keys.vault import Vault, Version

HASHED = "HS256"


class Shelf(Protocol):
    """The versions of secrets; a Vault, or the files of a local stack."""

    def versions(self, id: str) -> list[Version]:
        """Newest first; none of a secret that is empty."""

    def payload(self, id: str, version: int | str) -> bytes:
        """What a version holds."""

    def put(self, id: str, payload: bytes) -> int:
        """Add a version; its number."""


def make(shelf: Shelf, algorithm: str, wrap: wrapping.Wrap) -> Iterator[tuple[str, bool]]:
    """Each secret of ours, and whether it had to be made. `algorithm`: of the key that signs access tokens."""
    fixed = policies.not_rotated()
    for id in policies.secret_ids():
        if id not in fixed:
            yield id, _ring(shelf, id, algorithm if id == SIGNING_RING else HASHED, wrap)
    yield VERIFYING_RING, _follow(shelf)
    for id, text in policies.first_texts().items():
        yield id, _text(shelf, id, text)


def _ring(shelf: Shelf, id: str, algorithm: str, wrap: wrapping.Wrap) -> bool:
    if shelf.versions(id):
        return False
    kid = rings.new_kid()
    ring: rings.Ring = {"active": kid, "keys": {kid: rings.fresh(algorithm)}}
    if id in policies.WRAPPED:
        ring, _ = wrapping.wrapped(id, ring, wrap)
    if shelf.put(id, json.dumps(ring).encode()) > 1:
        _join(shelf, id)
    return True


def _join(shelf: Shelf, id: str) -> None:
    """The newest version holds the keys of all, and the oldest version's key signs."""
    while True:
        newest, *older = [json.loads(shelf.payload(id, each.number)) for each in shelf.versions(id)]
        keys = {kid: key for ring in (newest, *older) for kid, key in ring["keys"].items()}
        joined = {"active": older[-1]["active"], "keys": keys}
        if joined == newest:
            return
        shelf.put(id, json.dumps(joined).encode())


def _follow(shelf: Shelf) -> bool:
    """The ring of those who only verify says what the signing one does, without private keys."""
    if shelf.versions(VERIFYING_RING):
        return False
    while True:
        wanted = rings.verifying(json.loads(shelf.payload(SIGNING_RING, "latest")))
        shelf.put(VERIFYING_RING, json.dumps(wanted).encode())
        if rings.verifying(json.loads(shelf.payload(SIGNING_RING, "latest"))) == wanted:
            return True


def _text(shelf: Shelf, id: str, text: str | None) -> bool:
    if shelf.versions(id):
        return False
    if shelf.put(id, (text or random.token_urlsafe(rings.KEY_BYTES)).encode()) > 1:
        shelf.put(id, shelf.payload(id, shelf.versions(id)[-1].number))
    return True


def main(client: Any = None) -> int:
    """Say which secrets were made, by their ids alone; exit code 1 when one could not be."""
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - slow to import, only where it is used

    vault = Vault(client or secrets.client(), settings().project_id)
    try:
        for id, made in make(vault, settings().jwt_algorithm, kms.wrap):
            sys.stdout.write(f"{id}: {'made' if made else 'is there'}\n")
    except (GoogleAPIError, errors.Problem) as error:
        sys.stderr.write(f"stopped by {type(error).__name__}: mend the cause and run this again\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
