"""Audit chains made in the test itself, with the documents that a service would have signed about them."""

import base64
import copy
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.audit import GENESIS, event_hash, personal_hash, statement_of

Event = dict[str, Any]
Document = dict[str, Any]
ORGANIZATION = "5b0c8f0e-1d8c-4a43-9a35-1f8f0c2f6c11"
BASE_HASH = hashlib.sha256(b"dropped").hexdigest()
AT = "2026-03-01T12:00:00Z"


class Signer:
    """A key of the ring, by its id."""

    def __init__(self, kid: str = "k1") -> None:
        self.kid, self._key = kid, Ed25519PrivateKey.from_private_bytes(hashlib.sha256(kid.encode()).digest())

    @property
    def public(self) -> str:
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def sign(self, facts: Document) -> Document:
        statement = statement_of(facts)
        signature = base64.urlsafe_b64encode(self._key.sign(statement)).rstrip(b"=").decode()
        digest = hashlib.sha256(statement).hexdigest()
        return {**facts, "hash": digest, "signature": signature, "key_id": self.kid}


SIGNER = Signer()


def point(seq: int, digest: str) -> Document:
    return {"seq": seq, "hash": digest}


def anchor(seq: int, digest: str, base: Document | None = None, at: str = AT, signer: Signer = SIGNER) -> Document:
    places = {"base": base or point(0, GENESIS), "head": point(seq, digest)}
    return signer.sign({"kind": "audit_anchor", "organization_id": ORGANIZATION, **places, "at": at})


def checkpoint(seq: int, digest: str, signer: Signer = SIGNER) -> Document:
    places = {"base": point(seq, digest), "before": point(0, GENESIS)}
    return signer.sign({"kind": "audit_checkpoint", "organization_id": ORGANIZATION, **places, "at": AT})


def seal(event: Event) -> Event:
    """Give the event the hashes that its content has."""
    if event["personal_salt"] is not None:
        event["personal_hash"] = personal_hash(event["personal_salt"], event["personal"])
    event["hash"] = event_hash(event)
    return event


def event(seq: int, prev_hash: str, *, personal: Any = None, **fields: Any) -> Event:
    """One event, sealed; by the system unless the fields say otherwise."""
    made = {
        "seq": seq,
        "at": f"2026-01-01T00:00:00.{int(seq):06d}Z",
        "actor": {"type": "user", "id": "7c7f3a34-6a39-4c07-93c5-9d0c1a8c2f01"},
        "action": "project.updated",
        "resource": {"type": "project", "id": "p"},
        "outcome": "success",
        "request_id": f"r-{seq}",
        "data": {"fields": ["name", "status"], "n": seq, "deep": {"on": True, "none": None}},
        "personal": personal,
        "personal_salt": hashlib.sha256(f"salt {seq}".encode()).hexdigest(),
        "prev_hash": prev_hash,
    }
    return seal({**made, **fields})


def nulled(victim: Event) -> Event:
    """The event after an erasure."""
    return {**copy.deepcopy(victim), "personal": None, "personal_salt": None}


class Chain:
    """Events behind a base, and what is said about them."""

    def __init__(self, base: int = 0) -> None:
        self.base = (base, BASE_HASH if base else GENESIS)
        self.events: list[Event] = []

    @property
    def head(self) -> tuple[int, str]:
        return (self.events[-1]["seq"], self.events[-1]["hash"]) if self.events else self.base

    def add(self, **fields: Any) -> Event:
        made = event(self.head[0] + 1, self.head[1], **fields)
        self.events.append(made)
        return made

    def erase(self, seqs: list[int]) -> None:
        """Empty the personal part of these events, and say so, as an erasure does."""
        for place, known in enumerate(self.events):
            if known["seq"] in seqs:
                self.events[place] = nulled(known)
        self.add(action="personal.erased", data={"events": seqs}, actor={"type": "system", "id": None})

    def anchor(self, seq: int, **more: Any) -> Document:
        digest = next(known["hash"] for known in self.events if known["seq"] == seq)
        return anchor(seq, digest, point(*self.base), **more)

    def statement(self, signer: Signer = SIGNER, **changes: Any) -> Document:
        """What closes an export of this chain; `changes` are signed too."""
        facts = {
            "kind": "audit_statement",
            "organization_id": ORGANIZATION,
            "base": point(*self.base),
            "head": point(*self.head),
            "anchored": None,
            "checkpoint": checkpoint(*self.base, signer=signer) if self.base[0] else None,
            "keys": {signer.kid: signer.public},
            "at": AT,
        }
        return signer.sign({**facts, **changes})

    def lines(self, **changes: Any) -> list[Any]:
        return [*self.events, self.statement(**changes)]


def written(lines: list[Any]) -> bytes:
    """A file of an export."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    return b"".join(encode(line).encode("utf-8", "surrogatepass") + b"\n" for line in lines)


def sample(base: int = 0, events: int = 9) -> Chain:
    """A chain with people, systems, and an erasure in it."""
    chain = Chain(base)
    for number in range(events):
        person = {"ip": "203.0.113.7", "user_agent": 'odd "agent" \\ \u2028 🧑‍🚀 \u0001'} if number % 3 else None
        chain.add(personal=person)
    seqs = [known["seq"] for known in chain.events if known["personal"]][:3]
    if seqs:
        chain.erase(seqs)
    chain.add()
    return chain
