"""What happens to a key ring, as a pure function of the ring and the time: add, wait, promote, wait, retire.

The state stands in the ring itself: beside the members that readers know, each key says in Unix seconds when it was
made (`created_at`), began to sign (`promoted_at`) and stopped (`retired_at`). A key that waits has only the first, the
active key the first two, one that only verifies all three.
"""

import base64
import copy
import secrets
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from common import certificate

Ring = dict[str, Any]
KEY_BYTES = 32
KID_BYTES = 8
RSA_BITS = 2048
TIMES = ("created_at", "promoted_at", "retired_at")


@dataclass(frozen=True)
class Policy:
    """How a ring is rotated; durations in seconds. `lifetime`: how long what a key made stays valid, None for ever."""

    period: int
    settle: int
    lifetime: int | None
    algorithm: str = "HS256"
    shrinks: bool = False  # of a key that signs no more, only the public half is kept
    anew: bool = False  # a key that waits never signs: others may know it


def fresh(algorithm: str) -> dict[str, Any]:
    """A new key of a ring, without times."""
    if algorithm == "RS256":
        return _rsa()
    key = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=")
    return {"algorithm": algorithm, "key": key.decode()}


def new_kid() -> str:
    """A new key's id: 64 random bits."""
    return secrets.token_hex(KID_BYTES)


def _rsa() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {"algorithm": "RS256", "private_pem": private.decode(), "public_pem": public.decode()}


def verifying(ring: Ring) -> Ring:
    """What those may read who only verify: of RS256 keys the public halves; a shared key has no halves."""
    private = ("private_pem", *TIMES)
    keys = {kid: {name: each[name] for name in each if name not in private} for kid, each in ring["keys"].items()}
    return {"active": ring["active"], "keys": keys}


def material(ring: Ring) -> dict[str, dict[str, Any]]:
    """The keys of a ring without their times."""
    return {kid: {name: each[name] for name in each if name not in TIMES} for kid, each in ring["keys"].items()}


def advance(ring: Ring, now: int, policy: Policy) -> tuple[Ring, list[str]]:
    """The ring after what is due at `now`, and what was done, such as `added 1f…`. Nothing due: the ring as it was."""
    ring = copy.deepcopy(ring)
    _adopt(ring, now)
    done = _promote(ring, now, policy)
    done += _add(ring, now, policy)
    done += _retire(ring, now, policy)
    return ring, done


def publish_again(ring: Ring, known: set[str], now: int) -> Ring:
    """A key that waits and that not every reader's copy has yet starts to wait anew."""
    ring = copy.deepcopy(ring)
    for kid in _waiting(ring):
        if kid not in known:
            ring["keys"][kid]["created_at"] = now
    return ring


def rolled_back(ring: Ring, earlier: Ring, now: int, without: frozenset[str] = frozenset()) -> Ring:
    """The key that was active in an earlier version signs again; keys made since still verify, but for `without`.

    Raises ValueError when a key of the earlier version is not in the ring any more, or is to be thrown away.
    """
    active, ring = earlier["active"], copy.deepcopy(ring)
    if active in without or active not in ring["keys"] or material(earlier)[active] != material(ring)[active]:
        raise ValueError(f"key {active} of that version is retired or thrown away: it cannot sign again")
    ring["active"] = active
    ring["keys"] = {kid: each for kid, each in ring["keys"].items() if kid not in without}
    for kid, each in ring["keys"].items():
        if kid == active:
            each.pop("retired_at", None)
        else:
            each.setdefault("retired_at", now)
    return ring


def _waiting(ring: Ring) -> list[str]:
    keys = ring["keys"].items()
    return [kid for kid, each in keys if kid != ring["active"] and not {"promoted_at", "retired_at"} & each.keys()]


def _adopt(ring: Ring, now: int) -> None:
    """A ring that was made by hand says no times: its active key begins today, and any other one ended today."""
    for kid, each in ring["keys"].items():
        unknown = "created_at" not in each
        each.setdefault("created_at", now)
        if kid == ring["active"]:
            each.setdefault("promoted_at", now)
            each.pop("retired_at", None)
        elif unknown or "promoted_at" in each:
            each.setdefault("retired_at", now)


def _promote(ring: Ring, now: int, policy: Policy) -> list[str]:
    """The newest key that has waited long enough signs; others that waited never will."""
    waiting = sorted(_waiting(ring), key=lambda kid: (ring["keys"][kid]["created_at"], kid))
    if not waiting:
        return []
    *dropped, chosen = waiting
    if policy.anew or ring["keys"][chosen]["algorithm"] != policy.algorithm:
        dropped.append(chosen)
    done = []
    for kid in dropped:
        del ring["keys"][kid]
        done.append(f"dropped {kid}")
    if chosen not in dropped and ring["keys"][chosen]["created_at"] + policy.settle <= now:
        ring["keys"][ring["active"]]["retired_at"] = now
        ring["keys"][chosen]["promoted_at"] = now
        ring["active"] = chosen
        done.append(f"promoted {chosen}")
    return done


def _add(ring: Ring, now: int, policy: Policy) -> list[str]:
    active = ring["keys"][ring["active"]]
    due = active["promoted_at"] + policy.period <= now or active["algorithm"] != policy.algorithm
    if not due or _waiting(ring):
        return []
    kid = new_kid()
    ring["keys"][kid] = {**fresh(policy.algorithm), "created_at": now}
    return [f"added {kid}"]


def _retire(ring: Ring, now: int, policy: Policy) -> list[str]:
    """A reader may sign with the old key for as long as it caches: until `settle` after the promotion."""
    done = []
    for kid, each in list(ring["keys"].items()):
        if "retired_at" not in each or each["retired_at"] + policy.settle > now:
            continue
        if policy.lifetime is not None and each["retired_at"] + policy.settle + policy.lifetime <= now:
            del ring["keys"][kid]
            done.append(f"retired {kid}")
        elif policy.shrinks and "key" in each:
            public = certificate.public_half(kid, each["key"])
            ring["keys"][kid] = {**public, **{name: each[name] for name in TIMES}}
            done.append(f"shrunk {kid}")
    return done
