"""The drill: a backup from before some erasures is restored; the replay of the ledger makes it forget them again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from local import postgres
from local.demo import proof
from local.demo.client import RECEIPT, fragment
from local.demo.traces import dump, files, forms, hits, where
from local.identity import Issuer
from local.layout import PROJECT, REGION, Layout, service_account
from local.postgres_home import Owner, binary
from local.processes import die_with_parent
from tests.conftest import CHECKOUT, READY_SECONDS, SETTINGS, Api, Inbox, People, Person, database, wait_until

END_SECONDS = 120
REPLAY_SECONDS = 180
QUICK = {"DELETION_GRACE_ORGANIZATION_SECONDS": "0"}


class Site:
    """A stack that can be stopped, put back to a backup, and started again."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def running(self) -> Iterator[dict[str, Any]]:
        """`make run` until the block ends; stack.json."""
        log = (self.root.parent / "supervisor.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "local.supervisor", "--root", str(self.root)],
            cwd=CHECKOUT,
            env={**os.environ, **SETTINGS, **QUICK},
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        place = self.root / "stack.json"
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not place.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("no stack:\n" + (self.root.parent / "supervisor.log").read_text()[-3000:])
                time.sleep(0.1)
            yield {**json.loads(place.read_text()), "path": str(place)}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            log.close()

    def restore(self, backup: bytes) -> None:
        """Put the database back to a dump, with nothing else running."""
        layout = Layout.load(self.root / "layout.json")
        server = postgres.start(self.root, layout.ports["postgres"])
        try:
            url = postgres.admin_dsn(self.root, layout.ports["postgres"], "postgres")
            name = postgres.DATABASE
            self._psql(url, f"DROP DATABASE {name}; CREATE DATABASE {name} OWNER context_owner TEMPLATE template0;")
            self._psql(postgres.admin_dsn(self.root, layout.ports["postgres"]), backup.decode())
        finally:
            postgres.stop(server)

    def _psql(self, url: str, text: str) -> None:
        program = binary(self.root, Owner.choose(), "psql")
        command = [program, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", url]
        statements = text if text.startswith("--") else text.replace("; ", ";\n")
        done = subprocess.run(command, input=statements, text=True, capture_output=True, timeout=120, cwd="/")
        assert done.returncode == 0, done.stderr[-2000:]

    def drain(self) -> None:
        """Let Cloud Scheduler look at the outbox now, which else it does every minute."""
        layout = Layout.load(self.root / "layout.json")
        url = f"{layout.url('scheduler')}/v1/projects/{PROJECT}/locations/{REGION}/jobs/outbox-drain:run"
        token = Issuer(layout.root).access_token(service_account("scheduler"))
        requests.post(url, json={}, headers={"Authorization": f"Bearer {token}"}, timeout=30).raise_for_status()

    def replay(self) -> tuple[int, str]:
        """`make replay-erasures`, with the minutes of the drain made short: exit code and output."""
        command = [sys.executable, "-m", "local.replay", "--root", str(self.root), "--minutes", "3"]
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=dict(os.environ), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + REPLAY_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            self.drain()
            time.sleep(0.5)
        process.kill()
        return process.wait(), process.communicate()[0]


class Story:
    """Who is there, what they wrote, who goes, who stays."""

    def __init__(self, site: Site, stack: dict[str, Any]) -> None:
        self.site, self.stack = site, stack
        self.api = Api(stack["api"])
        self.inbox = Inbox(self.api, stack["mail"])
        with database(stack["postgres"]["admin"]) as admin:
            people = People(stack, admin)
            self.olga, self.mallory = people.create("owner"), people.create("owner")
            self.alone = people.create("owner")  # her organization goes with her
            self.dan = people.create("developer", self.olga.tenant_id)  # erased everywhere
            self.frida = people.create("developer", self.mallory.tenant_id)  # erased here, her account stays
            self.gustav = people.create("owner")  # his organization goes, he stays
            for person in (self.alone, self.dan, self.frida, self.gustav, self.olga, self.mallory):
                self._write(person)
        self.export = self.api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=self.dan).json["id"]
        wait_until(lambda: self._exported(), END_SECONDS, "an export")

    def _write(self, person: Person) -> None:
        project = self.api.post("/v1/projects", json={"name": f"Work of {person.user_id}"}, headers=person)
        assert project.status_code == 201, project.text
        task = {"title": "A task", "assignee_id": person.user_id}
        assert self.api.post(f"/v1/projects/{project.json['id']}/tasks", json=task, headers=person).status_code == 201

    def _exported(self) -> bool:
        return bool(self.api.get(f"/v1/exports/{self.export}", headers=self.dan).json["status"] == "ready")

    def erase_all(self) -> dict[str, str]:
        """Who goes; the receipts that came by mail, by request."""
        jobs = [
            self._ask(self.alone, scope="me"),
            self._ask(self.dan, scope="me"),
            self._ask(self.mallory, scope="user", user_id=self.frida.user_id),
            self._ask(self.gustav, scope="organization"),
        ]
        for job in jobs:
            self._wait_for(job)
        return {jobs[0]: self._receipt(self.alone), jobs[1]: self._receipt(self.dan)}

    def _ask(self, person: Person, **body: Any) -> str:
        answer = self.api.post("/v1/deletions", json=body, headers=person)
        assert answer.status_code == 202, answer.text
        return str(answer.json["id"])

    def _wait_for(self, job: str) -> None:
        deadline = time.monotonic() + END_SECONDS
        while not self._over(job):
            if time.monotonic() > deadline:
                log = (self.site.root / "log" / "deletions-jobs.log").read_text().splitlines()
                pytest.fail("\n".join([f"erasure {job}", *(line for line in log if '"INFO"' not in line)][-20:]))
            time.sleep(0.3)

    def _over(self, job: str) -> bool:
        self.site.drain()
        with database(self.stack["postgres"]["admin"]) as admin:
            return bool(admin.run("SELECT status FROM platform.jobs WHERE id = :id", id=job) == [["done"]])

    def _receipt(self, person: Person) -> str:
        texts = [message["text"] for message in self.inbox.messages(person.email)]
        links = [found[0] for text in texts if (found := RECEIPT.findall(text))]
        return str(fragment(links[0], "receipt"))

    def others(self, url: str) -> list[Any]:
        """Every row that is nobody's who goes: of Olga, of Mallory, of their organizations."""
        rows: list[Any] = []
        tenants = [self.olga.tenant_id, self.mallory.tenant_id]
        people = [self.olga.user_id, self.mallory.user_id]
        with database(url) as admin:
            for table in ("organizations", "projects", "tasks"):
                rows.append(
                    admin.run(
                        f"SELECT to_jsonb(t)::text FROM app.{table} t WHERE tenant_id = ANY (:tenants) ORDER BY 1",
                        tenants=tenants,
                    )
                )
            for table, column in (("app.members", "user_id"), ("identity.accounts", "id")):
                rows.append(
                    admin.run(
                        f"SELECT to_jsonb(t)::text FROM {table} t WHERE {column} = ANY (:people) ORDER BY 1",
                        people=people,
                    )
                )
        return rows

    def gone(self, url: str) -> dict[str, int]:
        """Rows that must not be there; by table and whose."""
        found = {}
        with database(url) as admin:
            for person in (self.alone, self.dan):
                sql = "SELECT count(*) FROM identity.accounts WHERE id = :id"
                found[f"account {person.email}"] = admin.run(sql, id=person.user_id)[0][0]
            for person in (self.alone, self.dan, self.frida, self.gustav):
                sql = "SELECT count(*) FROM app.members WHERE user_id = :id AND tenant_id = :tenant"
                values = {"id": person.user_id, "tenant": person.tenant_id}
                found[f"membership {person.email}"] = admin.run(sql, **values)[0][0]
            for person in (self.alone, self.gustav):
                for table in ("organizations", "projects", "tasks"):
                    sql = f"SELECT count(*) FROM app.{table} WHERE tenant_id = :tenant"
                    found[f"{table} {person.email}"] = admin.run(sql, tenant=person.tenant_id)[0][0]
        return found


def certificates(api: Api, receipts: dict[str, str]) -> dict[str, Any]:
    """What each receipt opens."""
    opened = {}
    for job, receipt in receipts.items():
        answer = api.get(f"/v1/deletions/{job}/certificate?receipt={receipt}")
        assert answer.status_code == 200, answer.text
        opened[job] = answer.json
    return opened


def test_a_restored_backup_forgets_again(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    with site.running() as stack:
        story = Story(site, stack)
        backup = dump(stack)
        before = story.others(stack["postgres"]["admin"])
        receipts = story.erase_all()
        proofs = certificates(story.api, receipts)
        assert set(story.gone(stack["postgres"]["admin"]).values()) == {0}
    needles = {form for person in (story.alone, story.dan) for form in forms(person.email) | forms(person.name)}
    assert hits(backup, needles) > 0

    site.restore(backup)
    with site.running() as stack:
        admin, api = stack["postgres"]["admin"], Api(stack["api"])
        assert set(story.gone(admin).values()) == {1}
        assert hits(dump(stack), needles) > 0
        mails = len(Inbox(api, stack["mail"]).messages(story.dan.email))

        code, said = site.replay()

        assert code == 0, said
        assert re.search(r"6 erasures in the ledger, 0 of them forgotten here already", said), said
        assert {name: rows for name, rows in story.gone(admin).items() if rows} == {}
        assert hits(dump(stack), needles) == 0
        for place, paths in files(stack).items():
            assert where(paths, needles) == [], place
        assert story.others(admin) == before
        assert certificates(api, receipts) == proofs
        keys = api.get("/v1/deletions/certificate-keys").json["keys"]
        assert all(proof.seals(certificate, keys) == (True, True) for certificate in proofs.values())
        assert len(Inbox(api, stack["mail"]).messages(story.dan.email)) == mails

        with database(admin) as connection:
            known = connection.run("SELECT count(*) FROM platform.deletions")
        code, said = site.replay()
        assert (code, said.splitlines()[0]) == (0, "6 erasures in the ledger, 6 of them forgotten here already")
        with database(admin) as connection:
            assert connection.run("SELECT count(*) FROM platform.deletions") == known
