"""The operator's way back: `python -m functions.keys.rollback --project P SECRET VERSION [--without KID]`.

The key that was active in VERSION signs again, at once; keys made since then still verify, except those that --without
throws away because they are no longer secret. docs/keys.md says when to do what.
"""

import argparse
import sys
import time
from typing import Any

from google.cloud import secretmanager

from common.tokens import SIGNING_RING, VERIFYING_RING
from functions.keys import rings
from functions.keys.vault import Overtaken, Vault


def roll_back(vault: Vault, id: str, version: int, without: frozenset[str], now: int) -> int:
    """The number of the new version. Raises ValueError when the key of that version is retired, GoogleAPIError."""
    number, present = vault.newest(id)
    ring = rings.rolled_back(present, vault.read(id, version)[1], now, without)
    if id == SIGNING_RING:
        vault.add(VERIFYING_RING, rings.verifying(ring), vault.newest(VERIFYING_RING)[0])
    return vault.add(id, ring, number)


def main(arguments: list[str] | None = None, client: Any = None) -> int:
    """Exit code 0 when the secret has a new version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", required=True)
    parser.add_argument("--endpoint", default="secretmanager.googleapis.com", help="host[:port] of Secret Manager")
    parser.add_argument("--without", action="append", default=[], metavar="KID", help="a key to throw away")
    parser.add_argument("secret")
    parser.add_argument("version", type=int)
    given = parser.parse_args(arguments)
    client = client or secretmanager.SecretManagerServiceClient(client_options={"api_endpoint": given.endpoint})
    try:
        vault = Vault(client, given.project)
        added = roll_back(vault, given.secret, given.version, frozenset(given.without), int(time.time()))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except Overtaken as error:
        sys.stderr.write(f"{error}: somebody else has just added a version; look, and try again\n")
        return 1
    sys.stdout.write(f"{given.secret}: version {added} is like version {given.version}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
