"""Data keys that stand in their ring only as Cloud KMS wrapped them, each for its ring and its own id."""

import base64
from collections.abc import Callable

from functions.keys.rings import Ring

Wrap = Callable[..., str]  # (key, ring's id, kid) → text


def wrapped(id: str, ring: Ring, wrap: Wrap) -> tuple[Ring, list[str]]:
    """The ring without a plain key, and which ones were plain: new ones, and those from before there was a KMS key.

    A key that is wrapped stays as it is: wrapping it again would look like another key.
    """
    keys, done = {}, []
    for kid, entry in ring["keys"].items():
        keys[kid] = dict(entry)
        if "key" in entry:
            plain = base64.urlsafe_b64decode(entry["key"] + "=" * (-len(entry["key"]) % 4))
            del keys[kid]["key"]
            keys[kid]["wrapped"] = wrap(plain, id, kid)
            done.append(f"wrapped {kid}")
    return {**ring, "keys": keys}, done
