"""What tests of the chain share: anchors in the bucket, exports as files, and the verdict about both."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pg8000.native
import pytest
import requests

from common import audit
from local.identity import Issuer
from local.layout import service_account
from local.stack import ANCHOR_BUCKET
from tests.audit.aging import Aging
from tests.conftest import Api, Person

NOW = "2026-01-01T00:00:00Z"
WRITE = """
    SELECT platform.record_event(CAST(:t AS uuid), 'project.updated', 'project', CAST(n AS text),
                                 jsonb_build_object('n', n), 'request-' || n)
    FROM generate_series(1, :n) n
"""


@pytest.fixture
def aging(stack: dict[str, Any], admin: pg8000.native.Connection) -> Aging:
    return Aging(stack, admin)


@dataclass
class Ledger:
    """One organization's chain: behind the product's back, through the API, and as an auditor sees it."""

    api: Api
    admin: pg8000.native.Connection
    aging: Aging
    person: Person
    folder: Path
    capsys: pytest.CaptureFixture[str]
    said: str = ""

    @property
    def id(self) -> str:
        return self.person.tenant_id

    def write(self, number: int) -> None:
        """So many events by the system, cheaply."""
        self.admin.run(WRITE, t=self.id, n=number)

    def run(self, *statements: str) -> None:
        """What an administrator of the database does; `:t` is the organization."""
        for statement in statements:
            self.admin.run(statement, **({"t": self.id} if ":t" in statement else {}))

    def hash(self, seq: int) -> str:
        rows = self.admin.run("SELECT hash FROM app.audit_events WHERE tenant_id = :t AND seq = :s", t=self.id, s=seq)
        return str(rows[0][0])

    def rehash(self, first: int = 1) -> None:
        """Hash everything from an event on anew, and make it the head: every link holds again."""
        rows = self.admin.run(
            "SELECT app.audit_event_json(e) FROM app.audit_events e WHERE tenant_id = :t AND seq >= :s ORDER BY seq",
            t=self.id,
            s=first,
        )
        last = rows[0][0]["prev_hash"]
        for (event,) in rows:
            digest = audit.event_hash({**event, "prev_hash": last})
            self.admin.run(
                "UPDATE app.audit_events SET prev_hash = :p, hash = :h WHERE tenant_id = :t AND seq = :s",
                **{"p": last, "h": digest, "t": self.id, "s": event["seq"]},
            )
            last = digest
        self.admin.run("UPDATE app.audit_heads SET hash = :h WHERE tenant_id = :t", h=last, t=self.id)

    def point(self, seq: int) -> dict[str, Any]:
        return {"seq": seq, "hash": self.hash(seq) if seq else audit.GENESIS}

    def anchor(self, seq: int, base: int = 0) -> dict[str, Any]:
        """Put a signed anchor of an event into the bucket, as the daily job does."""
        places = {"base": self.point(base), "head": self.point(seq)}
        document = self.aging.sign({"kind": audit.ANCHOR, "organization_id": self.id, **places, "at": NOW})
        name = f"anchors/{self.id}/{NOW.replace('-', '').replace(':', '')}-{seq:016d}.json"
        token = Issuer(self.aging.layout.root).access_token(service_account("tester"))
        requests.post(
            f"{self.aging.layout.url('storage')}/upload/storage/v1/b/{ANCHOR_BUCKET}/o",
            params={"uploadType": "media", "name": name},
            data=json.dumps(document),
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        ).raise_for_status()
        return document

    def move_base(self, seq: int, **changes: Any) -> None:
        """Drop everything up to an event, behind a checkpoint; `changes` are signed into it, or stand in its place."""
        facts = {"kind": audit.CHECKPOINT, "organization_id": self.id, "base": self.point(seq), "at": NOW}
        checkpoint = self.aging.sign({**facts, "before": {"seq": 0, "hash": audit.GENESIS}, **changes})
        self.admin.run(
            "UPDATE app.audit_heads SET base_seq = :s, base_hash = :h, checkpoint = CAST(:c AS jsonb)"
            " WHERE tenant_id = :t",
            **{"s": seq, "h": self.hash(seq), "c": json.dumps(checkpoint), "t": self.id},
        )
        self.admin.run("DELETE FROM app.audit_events WHERE tenant_id = :t AND seq <= :s", t=self.id, s=seq)

    def verdict(self) -> dict[str, Any]:
        """What the API says."""
        answer = self.api.get("/v1/audit-events/verify", headers=self.person)
        assert answer.status_code == 200, answer.text
        assert answer.json["valid"] is (answer.json["first_broken_seq"] is None)
        return dict(answer.json)

    def pages(self) -> list[bytes]:
        """The export, page by page."""
        path, found = "/v1/audit-events/export", []
        while path:
            answer = self.api.get(path, headers=self.person)
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson"), answer.text
            found.append(answer.response.content)
            path = answer.response.links.get("next", {}).get("url", "")
        return found

    def file(self) -> Path:
        """The export as an auditor has it."""
        path = self.folder / "export.ndjson"
        path.write_bytes(b"".join(self.pages()))
        return path

    def audited(self, path: Path, **files: Any) -> int | None:
        """The first broken seq of an export, as the stand-alone verifier says, by the stack's keys or others."""
        files.setdefault("keys", self.api.get("/v1/audit-events/keys").json)
        arguments = ["verify", str(path)]
        for name, document in files.items():
            given = self.folder / f"{name}.json"
            given.write_text(json.dumps(document))
            arguments += [f"--{name}", str(given)]
        code = audit.main(arguments)
        self.said = "".join(self.capsys.readouterr())
        assert code in (audit.HOLDS, audit.BROKEN), self.said
        return int(self.said.split("broken at seq ")[1].split(":")[0]) if code == audit.BROKEN else None

    @contextmanager
    def without_anchors(self) -> Iterator[None]:
        """The bucket of the anchors is away."""
        rename = "UPDATE buckets SET name = ? WHERE name = ?"
        with self.aging._store() as store:
            store.execute(rename, ("away", ANCHOR_BUCKET))
        try:
            yield
        finally:
            with self.aging._store() as store:
                store.execute(rename, (ANCHOR_BUCKET, "away"))


@pytest.fixture
def ledger(
    api: Api,
    admin: pg8000.native.Connection,
    aging: Aging,
    alice: Person,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Ledger:
    """Alice's organization, without events yet."""
    return Ledger(api, admin, aging, alice, tmp_path, capsys)
