"""Moves an organization's audit chain into the past: as if its events and their anchors had been made days earlier.

Events are dated back and hashed anew, anchors and checkpoint are signed anew over the new hashes, with the key of the
stack: what comes out is what a service would have written then. It works behind the product's back, on the database as
superuser and on the files of the storage stand-in, whose lock nobody else gets past.
"""

import base64
import hashlib
import json
import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pg8000.native

from common import certificate, secrets
from common.audit import GENESIS, event_hash, statement_of
from local.layout import Layout
from local.stack import ANCHOR_BUCKET
from local.storage.content import Hashes

Json = dict[str, Any]
STORED = "%Y-%m-%dT%H:%M:%S.%fZ"
SHOWN = "%Y-%m-%dT%H:%M:%SZ"
KEPT_DAYS = 400


class Aging:
    """Over one stack: `Aging(stack, admin).age(organization_id, days)`."""

    def __init__(self, stack: Json, admin: pg8000.native.Connection) -> None:
        self._admin = admin
        self.layout = Layout.load(Path(stack["path"]).parent / "layout.json")

    def age(self, organization_id: str, days: float) -> None:
        """Make the chain and its anchors so much older; anchors that would have aged out of the bucket go."""
        by = f"{days} days"
        self._admin.run(
            "UPDATE app.audit_events SET at = at - CAST(:by AS interval) WHERE tenant_id = :t",
            by=by,
            t=organization_id,
        )
        hashes = self.rehash(organization_id)
        self.age_head(organization_id, hashes, days)
        self._age_anchors(organization_id, hashes, days)

    def rehash(self, organization_id: str) -> dict[int, str]:
        """Hash every event behind the base anew; the hashes by seq, the base's among them."""
        (head,) = self._admin.run(
            "SELECT base_seq, base_hash FROM app.audit_heads WHERE tenant_id = :t", t=organization_id
        )
        hashes = {int(head[0]): str(head[1])}
        rows = self._admin.run(
            "SELECT app.audit_event_json(e)::text FROM app.audit_events e WHERE tenant_id = :t AND seq > :base"
            " ORDER BY seq",
            t=organization_id,
            base=head[0],
        )
        last = head[1]
        written = []
        for row in rows:
            event = json.loads(row[0]) | {"prev_hash": last}
            last = hashes[event["seq"]] = event_hash(event)
            written.append({"seq": event["seq"], "prev_hash": event["prev_hash"], "hash": last})
        self._admin.run(
            "UPDATE app.audit_events e SET prev_hash = n.prev_hash, hash = n.hash"
            " FROM jsonb_to_recordset(CAST(:new AS jsonb)) AS n (seq bigint, prev_hash text, hash text)"
            " WHERE e.tenant_id = :t AND e.seq = n.seq",
            t=organization_id,
            new=json.dumps(written),
        )
        return hashes

    def age_head(self, organization_id: str, hashes: dict[int, str], days: float) -> None:
        (row,) = self._admin.run(
            "SELECT seq, checkpoint::text FROM app.audit_heads WHERE tenant_id = :t", t=organization_id
        )
        checkpoint = self._aged(json.loads(row[1]), {}, days) if row[1] else None
        self._admin.run(
            "UPDATE app.audit_heads SET hash = :hash, checkpoint = CAST(:checkpoint AS jsonb),"
            " anchored_at = anchored_at - CAST(:by AS interval) WHERE tenant_id = :t",
            hash=hashes.get(int(row[0]), GENESIS),
            checkpoint=None if checkpoint is None else json.dumps(checkpoint),
            by=f"{days} days",
            t=organization_id,
        )

    def _aged(self, document: Json, hashes: dict[int, str], days: float) -> Json:
        """The document as it would have been signed so much earlier, of a chain with these hashes."""
        facts = {name: value for name, value in document.items() if name not in ("hash", "signature", "key_id")}
        facts["at"] = (_moment(facts["at"], SHOWN) - timedelta(days=days)).strftime(SHOWN)
        for place in ("base", "head"):
            if place in facts and facts[place]["seq"] in hashes:
                facts[place] = {"seq": facts[place]["seq"], "hash": hashes[facts[place]["seq"]]}
        return self.sign(facts)

    def sign(self, facts: Json) -> Json:
        """Sign a document as the services do."""
        ring = json.loads(self.layout.path("secrets", certificate.AUDIT_RING, "latest").read_text())
        key = secrets._key(ring["active"], ring["keys"][ring["active"]])
        statement = statement_of(facts)
        signature = base64.urlsafe_b64encode(certificate._private(key).sign(statement)).rstrip(b"=").decode()
        digest = hashlib.sha256(statement).hexdigest()
        return {**facts, "hash": digest, "signature": signature, "key_id": key.kid}

    def _age_anchors(self, organization_id: str, hashes: dict[int, str], days: float) -> None:
        for row, document in self.anchors(organization_id):
            created = _moment(row["created"], STORED) - timedelta(days=days)
            if created < datetime.now(UTC) - timedelta(days=KEPT_DAYS):
                self.forget(row["name"])
            else:
                self.replace(row["name"], self._aged(document, hashes, days), created.strftime(STORED))

    def objects(self, prefix: str) -> list[sqlite3.Row]:
        """The objects in the bucket whose names begin so, as the stand-in's rows."""
        with self._store() as store:
            return store.execute(
                "SELECT * FROM objects WHERE bucket = ? AND name LIKE ? ORDER BY name", (ANCHOR_BUCKET, f"{prefix}%")
            ).fetchall()

    def anchors(self, organization_id: str) -> list[tuple[sqlite3.Row, Json]]:
        """The organization's objects in the bucket, oldest first: rows of the stand-in, and documents."""
        rows = self.objects(f"anchors/{organization_id}/")
        folder = self.layout.path("storage", ANCHOR_BUCKET)
        return [(row, json.loads((folder / row["file"]).read_bytes())) for row in rows]

    def replace(self, name: str, document: Json, created: str) -> None:
        """Put another document, under its own name, in an object's place."""
        content = json.dumps(document, separators=(",", ":")).encode()
        digests = Hashes()
        digests.update(content)
        file = f"aged-{uuid.uuid4().hex}"
        self.layout.path("storage", ANCHOR_BUCKET, file).write_bytes(content)
        moment, seq = re.sub("[-:]", "", document["at"]), document["head"]["seq"]
        with self._store() as store:
            store.execute(
                "UPDATE OR REPLACE objects SET name = ?, file = ?, size = ?, md5 = ?, crc32c = ?, created = ?"
                " WHERE bucket = ? AND name = ?",
                (
                    f"anchors/{document['organization_id']}/{moment}-{seq:016d}.json",
                    *(file, digests.size, digests.md5, digests.crc32c, created),
                    *(ANCHOR_BUCKET, name),
                ),
            )

    @contextmanager
    def without_bucket(self) -> Iterator[None]:
        """As if the bucket of the anchors could not be reached."""
        rename = "UPDATE buckets SET name = ? WHERE name = ?"
        with self._store() as store:
            store.execute(rename, ("away", ANCHOR_BUCKET))
        try:
            yield
        finally:
            with self._store() as store:
                store.execute(rename, (ANCHOR_BUCKET, "away"))

    def forget(self, name: str) -> None:
        """Take an object away."""
        with self._store() as store:
            store.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (ANCHOR_BUCKET, name))

    @contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.layout.path("storage", ".metadata", "objects.db"), timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                yield connection
        finally:
            connection.close()


def _moment(text: str, form: str) -> datetime:
    return datetime.strptime(text, form).replace(tzinfo=UTC)
