"""PRIVACY_MAIL: what the platform itself answers for goes to the operator's data-protection officer."""

from datetime import timedelta
from pathlib import Path

from tests.conftest import Api, Inbox, People, database, running_stack
from tests.deletions.conftest import Backstage
from tests.incidents.conftest import Attack
from tests.privacy.conftest import Desk

OFFICER = "privacy@example.com"


def test_the_operator_gets_the_mail(tmp_path: Path) -> None:
    small = running_stack(tmp_path, only=["incidents"], PRIVACY_MAIL=OFFICER)
    with small as stack, database(stack["postgres"]["admin"]) as admin:
        api = Api(stack["api"])
        desk, inbox = Desk(api, admin, Backstage(stack, api, admin)), Inbox(api, stack["mail"])
        person = People(stack, admin).create("owner")
        request = desk.erasure(person, "me", due=timedelta(days=1))

        told = {"requests": 1, "mails": 1, "incidents": 0, "organizations": 0}
        assert desk.remind() == told
        assert desk.remind() == dict.fromkeys(told, 0)

        desk.drain()
        mail = inbox.wait_for(OFFICER, "due in two days")
        assert request in mail["text"]
        assert person.email not in mail["text"]
        assert inbox.messages(person.email) == []

        attack = Attack(stack, api, admin)
        attack.seen("198.51.100.7", 6)
        _, answered = attack.raised()
        desk.drain()
        mail = inbox.wait_for(OFFICER, "An alert was answered: Somebody tries passwords")
        assert answered["incident_id"] in mail["text"]
        assert "blocked for it: 1, the last until 20" in " ".join(mail["text"].split())
        assert "198.51.100" not in mail["text"]

        admin.run("UPDATE platform.incidents SET detected_at = detected_at - interval '73 hours'")
        assert desk.remind()["incidents"] == 1
        desk.drain()
        assert answered["incident_id"] in inbox.wait_for(OFFICER, "72 hours of an incident are over")["text"]
