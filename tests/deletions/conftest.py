"""What tests of erasure share: ask for one, wait for its end, read its certificate."""

import json
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Api, Person, wait_until


class Erasures:
    """Erasures as a person sees them; and, when her account is gone, as an operator sees them."""

    def __init__(self, api: Api, admin: pg8000.native.Connection) -> None:
        self._api, self._admin = api, admin

    def ask(self, person: Person, **body: Any) -> str:
        """The id of a new request."""
        answer = self._api.post("/v1/deletions", json={"scope": "me", **body}, headers=person)
        assert answer.status_code == 202, answer.text
        return str(answer.json["id"])

    def state(self, deletion_id: str) -> str:
        """The state of the job behind it."""
        rows = self._admin.run("SELECT status FROM platform.jobs WHERE id = :id", id=deletion_id)
        return str(rows[0][0])

    def ended(self, deletion_id: str, state: str = "done", seconds: float = 60) -> dict[str, Any]:
        """Wait for the end; the certificate, if there is one."""
        wait_until(lambda: self.state(deletion_id) in {"done", "failed", "cancelled"}, seconds, f"erasure {deletion_id}")
        assert self.state(deletion_id) == state, self.steps(deletion_id)
        found = self._admin.run("SELECT certificate FROM platform.deletions WHERE job_id = :id", id=deletion_id)[0][0]
        certificate: dict[str, Any] = found if not isinstance(found, str) else json.loads(found)
        return certificate

    def erase(self, person: Person) -> dict[str, Any]:
        """Ask and wait; the certificate."""
        return self.ended(self.ask(person))

    def steps(self, deletion_id: str) -> dict[str, str]:
        """Step → status."""
        rows = self._admin.run(
            "SELECT name, status FROM platform.deletion_steps WHERE job_id = :id ORDER BY position", id=deletion_id
        )
        return dict(rows)


@pytest.fixture
def erasures(api: Api, admin: pg8000.native.Connection) -> Erasures:
    return Erasures(api, admin)


def count(admin: pg8000.native.Connection, table: str, tenant_id: str) -> int:
    """Rows of an organization in one of its tables."""
    return int(admin.run(f"SELECT count(*) FROM {table} WHERE tenant_id = :id", id=tenant_id)[0][0])
