"""Random decisions, new texts, campaigns and sendings against a model: the mails that go out are those of the model."""

import uuid
from typing import Any

import pg8000.native
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from migrations.campaign import Campaign, send
from tests.conftest import Api, People, Person
from tests.consents.conftest import Consents
from tests.tenancy.conftest import Attacker

READERS = 3
someone = st.integers(0, READERS - 1)
RUNS = settings(max_examples=12, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck))
LATER = "UPDATE platform.outbox SET not_before = now() + interval '1 day' WHERE name = :n AND delivered_at IS NULL"
WAITING = "SELECT id::text, reference::text FROM platform.outbox WHERE name = :n AND delivered_at IS NULL ORDER BY id"


class World:
    """What the machine works on: the API, the database, and the mail service's login."""

    def __init__(self, stack: dict[str, Any], consents: Consents, readers: list[Person], sender: Attacker) -> None:
        self.url, self.consents, self.readers, self.sender = stack["postgres"]["admin"], consents, readers, sender


class Machine(RuleBasedStateMachine):
    """`said` is each reader's newest decision: (version, yes or no)."""

    world: World

    @initialize()
    def begin(self) -> None:
        self.purpose = self.world.consents.of_platform("Text 1")
        self.version = 1
        self.said: dict[int, tuple[int, bool]] = {}
        self.campaigns: list[tuple[Campaign, set[int]]] = []

    def counts(self, reader: int) -> bool:
        return self.said.get(reader) == (self.version, True)

    @rule(reader=someone, version=st.integers(1, 3))
    def give(self, reader: int, version: int) -> None:
        answer = self.world.consents.put(self.world.readers[reader], self.purpose, True, version)
        assert answer.status_code == (200 if version == self.version else 409)
        if version == self.version:
            self.said[reader] = (version, True)

    @rule(reader=someone)
    def withdraw(self, reader: int) -> None:
        shown = self.world.consents.withdraw(self.world.readers[reader], self.purpose)
        assert shown["granted"] is False
        self.said[reader] = (shown["version"], False)

    @rule()
    def another_text(self) -> None:
        self.version += 1
        self.world.consents.of_platform(f"Text {self.version}", purpose=self.purpose)

    @rule(again=st.booleans())
    def campaign(self, again: bool) -> None:
        consenting = {reader for reader in range(READERS) if self.counts(reader)}
        if again and self.campaigns:
            mail, queued = self.campaigns[-1]
            assert send(self.world.url, mail, str)["mailed"] == len(queued)
            return
        mail = Campaign(self.purpose, f"News {uuid.uuid4().hex}", "News.", None)
        assert send(self.world.url, mail, str)["mailed"] == len(consenting)
        self.world.consents.admin.run(LATER, n=f"campaign.{mail.id}")  # only the machine sends them
        self.campaigns.append((mail, consenting))

    @rule()
    def send_what_waits(self) -> None:
        """As the mail service does: each mail that waits goes to whom it is for, if she consents now."""
        for mail, queued in self.campaigns:
            waiting = self.world.consents.admin.run(WAITING, n=f"campaign.{mail.id}")
            by_id = {person.user_id: place for place, person in enumerate(self.world.readers)}
            expected = [self.world.readers[by_id[to]].email for _, to in waiting if self.counts(by_id[to])]
            assert {by_id[to] for _, to in waiting} <= queued
            assert [sent for each, _ in waiting for sent in self.deliver(each)] == expected

    def deliver(self, mail_id: str) -> list[str]:
        connection = self.world.sender.connection
        connection.run("BEGIN")
        self.world.sender.authorize(self.world.sender.token())
        connection.run("SELECT * FROM platform.mail_claim(:m)", m=mail_id)
        found = connection.run("SELECT email FROM platform.campaign_mail(:m)", m=mail_id)
        connection.run("SELECT platform.mail_delivered(:m)", m=mail_id)
        connection.run("COMMIT")
        return [row[0] for row in found]

    def teardown(self) -> None:
        if hasattr(self, "said"):
            for reader, person in enumerate(self.world.readers):
                shown = self.world.consents.mine(person, self.purpose)
                assert (shown and (shown["version"], shown["granted"])) == self.said.get(reader)
                assert self.world.consents.given(person, self.purpose) == self.counts(reader)
            self.send_what_waits()


@pytest.fixture
def sender(stack: dict[str, Any]):
    made = Attacker(stack, "auth_fn")
    yield made
    made.connection.close()


def test_the_mails_are_those_of_the_model(
    stack: dict[str, Any], api: Api, admin: pg8000.native.Connection, people: People, sender: Attacker
) -> None:
    readers = [people.create() for _ in range(READERS)]

    class Here(Machine):
        world = World(stack, Consents(api, admin), readers, sender)

    run_state_machine_as_test(Here, settings=RUNS)
