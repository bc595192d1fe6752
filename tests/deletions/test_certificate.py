"""A certificate can be checked by anyone, and an altered one does not hold."""

import copy
import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from common.certificate import holds
from tests.conftest import Api, Person
from tests.deletions.conftest import Erasures


@pytest.fixture
def issued(api: Api, alice: Person, erasures: Erasures):
    certificate = erasures.erase(alice)
    keys = api.get("/v1/deletions/certificate-keys").json["keys"]
    return certificate, keys[certificate["key_id"]]


def test_it_holds(issued) -> None:
    certificate, key = issued

    assert holds(certificate, key)
    assert holds(json.loads(json.dumps(dict(reversed(certificate.items())), indent=3)), key)
    assert set(certificate) == {
        "deletion_id", "scope", "completed_at", "tables", "objects_deleted", "processors", "retained", "scan",
        "backups_expire_at", "hash", "signature", "key_id",
    }  # fmt: skip


def test_it_says_when_the_last_backup_is_gone(issued) -> None:
    certificate, _ = issued
    completed, expire = (datetime.fromisoformat(certificate[name]) for name in ("completed_at", "backups_expire_at"))

    assert expire - completed == timedelta(days=7)
    assert completed.tzinfo is not None


def test_an_altered_one_does_not(issued) -> None:
    certificate, key = issued
    for field, value in {
        "objects_deleted": 7,
        "completed_at": "2020-01-01T00:00:00.000000Z",
        "backups_expire_at": "2020-01-01T00:00:00.000000Z",
        "scan": {"places": 1, "hits": 0},
        "hash": "0" * 64,
        "signature": certificate["signature"][::-1],
    }.items():
        assert not holds({**certificate, field: value}, key), field
    more = copy.deepcopy(certificate)
    more["tables"][0]["rows"] += 1
    assert not holds(more, key)
    assert not holds({**certificate, "note": "x"}, key)


def test_an_auditor_needs_one_command(issued, tmp_path: Path) -> None:
    certificate, key = issued
    file = tmp_path / "certificate.json"
    for content, code in ((certificate, 0), ({**certificate, "scope": "user"}, 1)):
        file.write_text(json.dumps(content))
        run = subprocess.run([sys.executable, "-m", "common.certificate", str(file), key], capture_output=True)
        assert run.returncode == code


def test_no_personal_data_is_in_it(issued, alice: Person) -> None:
    text = json.dumps(issued[0])

    for secret in (alice.email, alice.name, alice.user_id, alice.tenant_id):
        assert secret not in text
