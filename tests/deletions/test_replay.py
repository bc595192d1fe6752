"""The replay of the ledger: what a restored database holds again is erased again, and only that."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pg8000.native
import pytest

from local.identity import Issuer
from local.layout import PROJECT, REGION, Layout, service_account
from tests.conftest import CHECKOUT, Api, Inbox, People, Person, running_stack
from tests.deletions.conftest import Erasures

REPLAY_SECONDS = 120


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A ledger that other tests do not write to."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


class Operator:
    """Who restores a database and replays the ledger."""

    def __init__(self, stack: dict[str, Any], api: Api, admin: pg8000.native.Connection) -> None:
        self._api, self._admin = api, admin
        self._root = Path(stack["path"]).parent
        self._layout = Layout.load(self._root / "layout.json")

    def bring_back(self, person: Person, *, role: str = "developer") -> None:
        """The rows of a backup from before the erasure: the account, and the membership where that organization is."""
        self._admin.run(
            "INSERT INTO identity.accounts (id, email, display_name) VALUES (:id, :email, :name)"
            " ON CONFLICT (id) DO NOTHING",
            id=person.user_id,
            email=person.email,
            name=person.name,
        )
        self._admin.run(
            "INSERT INTO app.organizations (tenant_id, slug, name) VALUES (:id, :slug, 'Back') ON CONFLICT DO NOTHING",
            id=person.tenant_id,
            slug=f"back-{person.tenant_id[:8]}",
        )
        People.join(self._people(), person.user_id, person.tenant_id, role)

    def _people(self) -> Any:
        made = People.__new__(People)
        made._admin = self._admin
        return made

    def forget_requests(self, person: Person) -> None:
        """The backup knows no request of hers."""
        self._admin.run(
            "DELETE FROM platform.jobs WHERE id IN (SELECT job_id FROM platform.deletions WHERE subject_id = :id)",
            id=person.user_id,
        )

    def replay(self) -> tuple[int, str]:
        """`make replay-erasures`, with the minutes of the drain made short: exit code and output."""
        command = [sys.executable, "-m", "local.replay", "--root", str(self._root), "--minutes", "2"]
        process = subprocess.Popen(command, cwd=CHECKOUT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + REPLAY_SECONDS
        url = f"{self._layout.url('scheduler')}/v1/projects/{PROJECT}/locations/{REGION}/jobs/outbox-drain:run"
        token = Issuer(self._layout.root).access_token(service_account("tester"))
        while process.poll() is None and time.monotonic() < deadline:
            assert self._api.post(url, json={}, headers={"Authorization": f"Bearer {token}"}).status_code == 200
            time.sleep(0.5)
        process.kill()
        return process.wait(), process.communicate()[0]

    def there(self, person: Person) -> tuple[int, int]:
        """Accounts and memberships of a person."""
        accounts = self._admin.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=person.user_id)
        members = self._admin.run("SELECT count(*) FROM app.members WHERE user_id = :id", id=person.user_id)
        return int(accounts[0][0]), int(members[0][0])


@pytest.fixture
def operator(stack: dict[str, Any], api: Api, admin: pg8000.native.Connection) -> Operator:
    return Operator(stack, api, admin)


def test_who_is_back_goes_again_and_the_proof_is_the_old_one(
    alice: Person,
    dan: Person,
    operator: Operator,
    erasures: Erasures,
    inbox: Inbox,
    admin: pg8000.native.Connection,
) -> None:
    deletion_id = erasures.ask(dan)
    certificate = erasures.ended(deletion_id)
    mails = len(inbox.messages(dan.email))
    operator.forget_requests(dan)
    operator.bring_back(dan)
    assert operator.there(dan) == (1, 1)

    code, said = operator.replay()

    assert code == 0, said
    assert operator.there(dan) == (0, 0)
    assert operator.there(alice) == (1, 1)
    stored = "SELECT d.certificate, j.status FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id"
    assert admin.run(f"{stored} WHERE d.job_id = :id", id=deletion_id) == [[certificate, "done"]]
    assert len(inbox.messages(dan.email)) == mails


def test_a_second_replay_changes_nothing(
    alice: Person, dan: Person, operator: Operator, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    erasures.erase(dan)
    known = "SELECT count(*), max(finished_at) FROM platform.deletions"
    before = admin.run(known)

    code, said = operator.replay()

    assert code == 0, said
    assert "complete" in said.splitlines()[-1]
    assert admin.run(known) == before
    assert operator.there(alice) == (1, 1)


def test_a_request_that_waited_in_the_backup_waits_no_more(
    alice: Person, dan: Person, operator: Operator, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    deletion_id = erasures.ask(dan)
    certificate = erasures.ended(deletion_id)
    operator.bring_back(dan)
    admin.run(
        "DELETE FROM platform.jobs WHERE id IN (SELECT job_id FROM platform.deletions WHERE parent_id = :id)",
        id=deletion_id,
    )
    admin.run(
        "UPDATE platform.jobs SET status = 'queued', execution_id = NULL, finished_at = NULL,"
        " heartbeat_at = now() + interval '9 days' WHERE id = :id",
        id=deletion_id,
    )
    admin.run(
        "UPDATE platform.deletions SET execute_after = now() + interval '7 days', approval_needed = true,"
        " certificate = NULL, finished_at = NULL, started_at = NULL, frozen_at = NULL, ledger_at = NULL,"
        " mail_to = :email, name_to_find = :name WHERE job_id = :id",
        id=deletion_id,
        email=dan.email,
        name=dan.name,
    )
    admin.run("UPDATE platform.deletion_steps SET status = 'pending', rows = 0 WHERE job_id = :id", id=deletion_id)

    code, said = operator.replay()

    assert code == 0, said
    assert operator.there(dan) == (0, 0)
    assert erasures.ended(deletion_id) == certificate


def test_a_later_request_of_somebody_who_came_back_goes_on_waiting(
    alice: Person, dan: Person, api: Api, operator: Operator, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    """Replaying at any time is safe: what waits for an approval, or its time, is not begun by an older entry."""
    erasures.ended(erasures.ask(alice, scope="user", user_id=dan.user_id))
    operator.bring_back(dan)  # invited again
    today = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime())
    letter = {"kind": "deletion", "user_id": dan.user_id, "received_at": today}
    answer = api.post("/v1/privacy/requests", json=letter, headers=alice)
    assert answer.status_code == 202, answer.text
    known = "SELECT channel, approval_needed, execute_after, started_at FROM platform.deletions WHERE job_id = :id"
    before = admin.run(known, id=answer.json["id"])

    code, said = operator.replay()

    assert code == 0, said
    assert admin.run(known, id=answer.json["id"]) == before
    assert erasures.state(answer.json["id"]) == "queued"
    assert operator.there(dan) == (1, 1)
