"""The drill from the first row to the open door: what is done, what must hold afterwards, and how long it took."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from local import postgres
from local.demo import proof
from local.demo.client import Client, eventually
from local.demo.console import Console
from local.demo.traces import dump, files, forms, hits, where
from local.drill.archive import Archive, connected, size
from local.drill.filling import Amount, fill, write_tasks
from local.drill.people import ERASURE_SECONDS, Cast, Writer
from local.drill.site import Site

RPO_SECONDS, RTO_SECONDS = 15 * 60, 60 * 60  # the objectives
SEARCHED_BYTES = 256 << 20  # a larger database is not dumped to be searched
LEDGER = "8 erasures in the ledger, 2 of them forgotten here already"
AGAIN = "8 erasures in the ledger, 8 of them forgotten here already"
MIB = 1 << 20


@dataclass
class Facts:
    """What was measured: seconds by step, and what there was."""

    steps: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def rto(self) -> float:
        """Seconds from the loss to the open door."""
        return self.figures["rto"]

    @property
    def rpo(self) -> float:
        """Seconds before the loss of which nothing came back."""
        return self.figures["rpo"]


class Drill:
    """One drill. Raises TooLate, Refused, Broken or CalledProcessError where it cannot go on."""

    def __init__(self, site: Site, console: Console, amount: Amount, archive_seconds: int) -> None:
        self.site, self.console, self.amount = site, console, amount
        self.archive_seconds = archive_seconds
        self.facts = Facts()

    def run(self) -> Facts:
        """All of it; what was measured. Whether everything held, the console knows."""
        self.prepare()
        self.back_up()
        self.live_on()
        self.forget_people()
        self.lose()
        self.bring_back()
        self.forget_again()
        self.look()
        self.judge()
        return self.facts

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure and tell a step."""
        began = time.monotonic()
        yield
        self.facts.steps[name] = time.monotonic() - began
        self.console.say(f"{self.facts.steps[name]:7.1f} s  {name}")

    @property
    def url(self) -> str:
        """The administrator's libpq URL."""
        return postgres.admin_dsn(self.site.root, self.site.layout.ports["postgres"])

    def prepare(self) -> None:
        """A stack that archives, with people and rows."""
        self.console.title("1  Before")
        with self.step("the stack starts"):
            stack = self.site.start()
        self.archive = Archive(self.site.root, self.site.layout.ports["postgres"])
        with self.step("archiving of the write-ahead log is switched on"):
            self.archive.begin(stack["pids"]["postgres"], self.url, self.archive_seconds)
        with self.step("rows are written"), connected(self.url) as admin:
            fill(admin, self.amount)
        with self.step("people are made, one exports"), connected(self.url) as admin:
            self.cast = Cast(stack, admin)

    def back_up(self) -> None:
        """The base backup."""
        with self.step("base backup, verified"):
            copied = self.archive.take()
        with connected(self.url) as admin:
            tasks, events, whole = admin.run(
                "SELECT (SELECT count(*) FROM app.tasks), (SELECT count(*) FROM app.audit_events),"
                " pg_database_size(current_database())"
            )[0]
        self.facts.figures |= {
            "backup_mib": copied / MIB,
            "tasks": tasks,
            "events": events,
            "database_mib": whole / MIB,
        }
        self.console.say(f"{tasks:,} tasks, {events:,} audit events, database {whole / MIB:,.0f} MiB")

    def live_on(self) -> None:
        """Work and an erasure after the backup, the anchors, and then a wrong statement."""
        self.console.title("2  After the backup")
        self.writer = Writer(self.cast.wanda)
        self.writer.start()
        with self.step("more rows are written"), connected(self.url) as admin:
            write_tasks(admin, self.amount, self.amount.before + 1, self.amount.each)
        with self.step("one person is erased"):
            self.early = self.cast.early_requests()
            self._wait_for(self.early)
        with self.step("every chain is anchored"):
            self.site.run_job("anchors")
            eventually(self._all_anchored, ERASURE_SECONDS, "the anchors")
        self.writer.wait_for_more(5)
        self.before = self.others()
        with connected(self.url) as admin:
            # Looked at in the statement itself, before its commit: whatever it deletes was there at that moment.
            sql = "WITH gone AS (DELETE FROM app.tasks RETURNING 1) SELECT count(*), clock_timestamp() FROM gone"
            gone, moment = admin.run(sql)[0]
        self.rows, self.moment = int(gone), moment.astimezone(UTC)
        self.console.say(
            f"a wrong statement deletes all {self.rows:,} tasks; the moment before it is {self.moment:%X.%f}"
        )

    def _all_anchored(self) -> bool:
        with connected(self.url) as admin:
            return bool(admin.run("SELECT FROM app.audit_heads WHERE anchored_at IS NULL LIMIT 1") == [])

    def forget_people(self) -> None:
        """Erasures that no recovery to the moment knows of: the ledger alone does."""
        with self.step("four more are erased, of which the moment knows nothing"):
            self.late = self.cast.late_requests()
            self._wait_for(self.late)
        self.receipts = dict(
            zip((self.early[0], *self.late[:2]), map(self.cast.receipt, self.cast.erased), strict=True)
        )
        self.proofs = self.certificates()
        self.mails = self.cast.mails()
        self.archive.close_segment(self.url)
        self.writer.wait_for_more(5)

    def _wait_for(self, requests: list[str]) -> None:
        def done() -> bool:
            self.site.run_job("outbox-drain")
            with connected(self.url) as admin:
                sql = "SELECT count(*) FROM platform.jobs WHERE status = 'done' AND id = ANY (CAST(:ids AS uuid[]))"
                return bool(admin.run(sql, ids=requests) == [[len(requests)]])

        eventually(done, ERASURE_SECONDS, "erasures")

    def certificates(self) -> dict[str, Any]:
        """What each receipt opens."""
        client, found = Client(self.site.stack["api"]), {}
        for request, receipt in self.receipts.items():
            found[request] = client.get(f"/v1/deletions/{request}/certificate?receipt={receipt}").json()
        return found

    def others(self) -> list[Any]:
        """Every row of Olga's and Mallory's organizations that is nobody's who is erased."""
        tenants = [self.cast.olga.tenant_id, self.cast.mallory.tenant_id]
        people = [self.cast.olga.user_id, self.cast.mallory.user_id]
        tables = {"app.organizations": "tenant_id", "app.projects": "tenant_id", "app.members": "user_id"}
        with connected(self.url) as admin:
            return [
                admin.run(
                    f"SELECT to_jsonb(t)::text FROM {table} t"  # noqa: S608 - names of ours
                    f" WHERE {column} = ANY (CAST(:ids AS uuid[])) ORDER BY 1",
                    ids=people if column in {"user_id", "id"} else tenants,
                )
                for table, column in {**tables, "app.tasks": "tenant_id", "identity.accounts": "id"}.items()
            ]

    def lose(self) -> None:
        """The disaster."""
        self.console.title("3  The database is killed, its files are gone")
        self.lost_at = self.site.lose()
        self.clock = time.monotonic()
        self.writer.stop()
        youngest = self.archive.youngest()
        lag = self.lost_at - youngest.timestamp()
        self.facts.figures |= {"archived_mib": size(self.archive.folder) / MIB, "archive_lag": lag}
        self.console.say(f"the archive reaches to {lag:.1f} s before the loss")

    def bring_back(self) -> None:
        """Base backup, log up to the moment, then the stack: schema, keys, functions, gateway."""
        self.console.title(f"4  Back to {self.moment:%Y-%m-%d %H:%M:%S.%f} UTC")
        with self.step("the base backup is put back"):
            self.archive.put_back()
        with self.step("the log is replayed up to the moment"):
            self.archive.recover(self.moment)
        with self.step("the stack starts: migrate, provision, functions, gateway"):
            self.site.start()
        self._check_rows()

    def _check_rows(self) -> None:
        with connected(self.url) as admin:
            count = admin.run("SELECT count(*) FROM app.tasks")[0][0]
            sql = "SELECT id, created_at FROM app.tasks WHERE tenant_id = :tenant AND title = 'A row'"
            back = {str(id): at.timestamp() for id, at in admin.run(sql, tenant=self.cast.wanda.tenant_id)}
        moment = self.moment.timestamp()
        wanted = {row.id for row in self.writer.rows if row.answered < moment}
        unwanted = {row.id for row in self.writer.rows if row.asked > moment}
        lost = len(self.writer.rows) - len(back.keys() & {row.id for row in self.writer.rows})
        youngest = max(back.values(), default=0.0)
        self.facts.figures |= {"rpo": self.lost_at - youngest, "lost_rows": lost, "rows": count}
        check = self.console.check
        check(wanted <= back.keys(), "rows", f"all {len(wanted)} rows promised before the moment are there", len(back))
        check(not unwanted & back.keys(), "rows", f"none of the {len(unwanted)} asked for after it is")
        told = f"the {self.rows:,} tasks that the wrong statement deleted are there"
        check(self.rows <= count <= self.rows + len(self.writer.rows), "rows", told, count)
        gone = self.gone()
        held = all(rows == (nick != "early") for nick, rows in gone.items())
        check(held, "people", "whom the moment still knew is back, whom it did not is not", gone)

    def gone(self) -> dict[str, int]:
        """Rows that must not be there after the replay, by whose they are; the first was erased before the moment."""
        cast, found = self.cast, {}
        with connected(self.url) as admin:
            for nick, person in (("early", cast.early), ("alone", cast.alone), ("dan", cast.dan)):
                found[nick] = admin.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=person.user_id)[0][
                    0
                ]
            for nick, person in (("frida", cast.frida), ("gustav", cast.gustav)):
                sql = "SELECT count(*) FROM app.members WHERE user_id = :id AND tenant_id = :tenant"
                found[f"membership of {nick}"] = admin.run(sql, id=person.user_id, tenant=person.tenant_id)[0][0]
            sql = "SELECT count(*) FROM app.tasks WHERE tenant_id = :tenant"
            found["tasks of gustav's"] = admin.run(sql, tenant=cast.gustav.tenant_id)[0][0]
        return found

    def forget_again(self) -> None:
        """The ledger is replayed; twice, to see that the second time finds nothing."""
        self.console.title("5  Whom the ledger knows is erased again")
        with self.step("the erasures are replayed"):
            code, said = self.site.command("local.replay", "--minutes", "30", draining=True)
        self.console.check(code == 0 and LEDGER in said, "ledger", "six of eight erasures are done again", said)
        self.console.check(not any(self.gone().values()), "people", "nobody of them is left", self.gone())
        self.console.check(self.others() == self.before, "people", "everybody else's rows are as they were")

    def look(self) -> None:
        """Chains, isolation, health: what must be known before anybody gets in."""
        self.console.title("6  Before the doors open")
        check = self.console.check
        with self.step("every audit chain is verified"):
            code, said = self.site.command("local.operator", "verify", "--json")
        told: dict[str, Any] = next(
            (json.loads(line) for line in said.splitlines() if line.startswith("{") and '"chains"' in line), {}
        )
        chains = told.get("chains", 0)
        held = code == 0 and told.get("broken") == [] and chains > self.amount.organizations
        check(held, "audit", f"{chains} chains with {told.get('events', 0):,} events hold against their anchors", said)
        self._check_isolation()
        with self.step("the gateway is asked"):
            healthy = Client(self.site.stack["api"]).get("/health/ready")
        check(healthy.status_code == 200, "health", "the gateway says ready", healthy.text[:300])
        self.facts.figures["rto"] = time.monotonic() - self.clock
        self._check_proofs()

    def _check_isolation(self) -> None:
        olga, mallory = self.cast.olga, self.cast.mallory
        path = f"/v1/projects/{olga.project}"
        own, other = olga.client.get(path), mallory.client.get(path)
        change = mallory.client.send("PATCH", path, {"name": "mine"}, **{"If-Match": own.headers.get("ETag", "*")})
        listed = {item["id"] for item in mallory.client.every("/v1/projects")}
        codes = own.status_code, other.status_code, change.status_code
        held = codes == (200, 404, 404) and mallory.project in listed and olga.project not in listed
        self.console.check(held, "tenant", "a token of one organization reaches no row of another", (codes, listed))

    def _check_proofs(self) -> None:
        """What need not be waited for: the certificates, the mails, a second replay, and a search for traces."""
        check, stack = self.console.check, self.site.stack
        keys = Client(stack["api"]).get("/v1/deletions/certificate-keys").json()["keys"]
        sealed = all(proof.seals(each, keys) == (True, True) for each in self.proofs.values())
        check(
            sealed and self.certificates() == self.proofs, "proof", "the certificates that people hold are still good"
        )
        check(self.cast.mails() == self.mails, "mail", "nobody is written to a second time", self.cast.mails())
        code, said = self.site.command("local.replay", "--minutes", "1")
        check(code == 0 and AGAIN in said, "ledger", "a second replay finds nothing to do", said)
        needles = {form for each in self.cast.erased for form in forms(each.email) | forms(each.name)}
        if self.facts.figures["database_mib"] * MIB <= SEARCHED_BYTES:
            check(hits(dump(stack), needles) == 0, "traces", "no byte of the erased is in a dump of the database")
        places = {place: where(paths, needles) for place, paths in files(stack).items()}
        check(not any(places.values()), "traces", "none is in storage, logs and the state of the stand-ins", places)

    def judge(self) -> None:
        """The objectives."""
        self.console.title("7  The objectives")
        facts, check = self.facts, self.console.check
        check(facts.rto <= RTO_SECONDS, "RTO", f"{facts.rto:.1f} s from the loss to the open door, of {RTO_SECONDS}")
        lost = f"the youngest row that came back is {facts.rpo:.1f} s older than the loss, of {RPO_SECONDS}"
        told = f"{lost}; {facts.figures['lost_rows']:.0f} rows are lost"
        check(facts.rpo <= RPO_SECONDS, "RPO", told)
