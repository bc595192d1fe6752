"""A campaign mails everybody who consents, once, and nobody else: whatever happens in between."""

import json
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from migrations.campaign import Campaign, Refused, main, preview, send
from tests.conftest import Api, Inbox, People, Person, wait_until
from tests.consents.conftest import Consents

DECIDE = "SELECT platform.record_consent(CAST(:a AS uuid), CAST(:o AS uuid), :p, :v, :g, 'settings', NULL, NULL, NULL)"
CHOSEN = (
    "SELECT identity.keep_choices(CAST(:a AS uuid), jsonb_build_array(jsonb_build_object("
    "'purpose', CAST(:p AS text), 'version', 2, 'granted', true)), 'gpc', NULL, NULL)"
)
PEOPLE = (
    *("consents", "agreed_again", "agreed_at_sign_up"),
    *("never_asked", "refused", "to_the_old_text", "withdrew", "signalled", "lapsed"),
    *("frozen", "suspended", "erased", "withdraws_meanwhile", "frozen_meanwhile"),
)
MAILED = {"consents", "agreed_again", "agreed_at_sign_up"}


class Post:
    """What campaigns put into the outbox, and what became of it."""

    def __init__(self, stack, consents: Consents, inbox: Inbox, drain) -> None:
        self.url, self.consents, self.inbox, self.drain = stack["postgres"]["admin"], consents, inbox, drain
        self.folder = Path(stack["mail_dir"])

    def queued(self, campaign: Campaign) -> list[str]:
        """Whom the mails are for."""
        rows = self.consents.admin.run(
            "SELECT reference::text FROM platform.outbox WHERE name = :n", n=f"campaign.{campaign.id}"
        )
        return [row[0] for row in rows]

    def state(self, campaign: Campaign) -> dict:
        found: dict
        ((found,),) = self.consents.admin.run(
            "SELECT to_json(c) FROM platform.campaigns c WHERE id = CAST(:id AS uuid)", id=campaign.id
        )
        return found

    def delivered(self, campaign: Campaign) -> list[str]:
        """Send all that waits; the addresses that got it."""
        waits = "SELECT count(*) FROM platform.outbox WHERE name = :n AND delivered_at IS NULL"

        def done() -> bool:
            if self.consents.admin.run(waits, n=f"campaign.{campaign.id}") == [[0]]:
                return True
            self.drain()
            return False

        wait_until(done, what="the end of the campaign")
        return sorted(each for each in self.addressed(campaign.subject))

    def addressed(self, subject: str) -> list[str]:
        return [str(each["to"]) for each in self.inbox.messages("") if each["subject"] == subject]


@pytest.fixture
def post(stack, consents: Consents, inbox: Inbox, drain) -> Post:
    return Post(stack, consents, inbox, drain)


def mail(purpose: str, **changes) -> Campaign:
    said = {
        "subject": f"News {uuid.uuid4().hex[:12]}",
        "text": "Dear reader,\n\nhere is <b>news</b>.",
        "organization": None,
    }
    return Campaign(purpose=purpose, **{**said, **changes})


def decide(consents: Consents, person: Person, purpose: str, *said: tuple[int, bool], organization=None) -> None:
    for version, granted in said:
        consents.admin.run(DECIDE, a=person.user_id, o=organization, p=purpose, v=version, g=granted)


def cast(people: People, consents: Consents, purpose: str) -> dict[str, Person]:
    """Somebody in every state; the purpose is at its second text."""
    everybody = {name: people.create() for name in PEOPLE}
    run = consents.admin.run
    for name in PEOPLE[:1] + PEOPLE[8:]:
        decide(consents, everybody[name], purpose, (2, True))
    decide(consents, everybody["agreed_again"], purpose, (1, True), (1, False), (2, True))
    decide(consents, everybody["agreed_at_sign_up"], purpose, (2, True))
    run(
        "UPDATE identity.consents SET source = 'registration' WHERE account_id = :a",
        a=everybody["agreed_at_sign_up"].user_id,
    )
    decide(consents, everybody["refused"], purpose, (2, False))
    decide(consents, everybody["to_the_old_text"], purpose, (1, True))
    decide(consents, everybody["withdrew"], purpose, (2, True), (2, False))
    run(CHOSEN, a=everybody["signalled"].user_id, p=purpose)
    ago = "UPDATE identity.consents SET at = now() - interval '3 years 1 second' WHERE account_id = :a"
    run(ago, a=everybody["lapsed"].user_id)
    run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :a", a=everybody["frozen"].user_id)
    suspend = "UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t"
    run(suspend, t=everybody["suspended"].tenant_id)
    run("DELETE FROM app.members WHERE user_id = :a", a=everybody["erased"].user_id)
    run("DELETE FROM identity.accounts WHERE id = :a", a=everybody["erased"].user_id)
    return everybody


def test_nobody_without_consent_is_mailed(people: People, consents: Consents, post: Post) -> None:
    purpose = consents.of_platform()
    consents.of_platform("The second text", purpose=purpose)
    everybody = cast(people, consents, purpose)
    campaign = mail(purpose)

    told = preview(post.url, campaign, batch=4)
    assert told == {"consenting": 7, "mailed": 5, "skipped": 2}
    assert post.queued(campaign) == []
    counts = send(post.url, campaign, print, per_minute=100_000, batch=3)
    again = send(post.url, campaign, print)

    assert counts == again == {**told, "withheld": 0}
    decide(consents, everybody["withdraws_meanwhile"], purpose, (2, False))
    freeze = "UPDATE identity.accounts SET status = 'frozen' WHERE id = :a"
    consents.admin.run(freeze, a=everybody["frozen_meanwhile"].user_id)
    assert post.delivered(campaign) == sorted(everybody[name].email for name in MAILED)
    assert post.state(campaign)["withheld"] == 2
    assert send(post.url, campaign, print) == {**told, "withheld": 2}
    assert post.delivered(campaign) == sorted(everybody[name].email for name in MAILED)


def test_the_mail_brings_the_way_out(api: Api, vera: Person, consents: Consents, post: Post) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    campaign = mail(purpose)
    send(post.url, campaign, print)

    assert post.delivered(campaign) == [vera.email]

    (found,) = (each for each in post.inbox.messages(vera.email) if each["subject"] == campaign.subject)
    raw = message_from_bytes((post.folder / "new" / found["id"]).read_bytes(), policy=default)
    link = raw["List-Unsubscribe"].removeprefix("<").removesuffix(">")
    assert raw["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert link.startswith(f"{api.base}/v1/consents/unsubscribe?token=")
    assert link in found["text"]
    assert "here is <b>news</b>." in found["text"]
    html = raw.get_body(("html",))
    assert html is not None
    assert "here is &lt;b&gt;news&lt;/b&gt;." in html.get_content()
    assert api.get(link).status_code == 200
    assert consents.given(vera, purpose)
    body = {"data": "List-Unsubscribe=One-Click", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    assert api.post(link, **body).status_code == 200
    assert not consents.given(vera, purpose)


def test_a_campaign_that_is_killed_goes_on(people: People, consents: Consents, post: Post) -> None:
    purpose = consents.of_platform()
    readers = [people.create() for _ in range(7)]
    for reader in readers:
        decide(consents, reader, purpose, (1, True))
    campaign = mail(purpose)
    told: list[str] = []

    class Killed(Exception):
        pass

    def die(line: str) -> None:
        told.append(line)
        raise Killed

    with pytest.raises(Killed):
        send(post.url, campaign, die)
    admin = consents.admin
    batch = "SELECT finished, mailed FROM platform.run_campaign(CAST(:id AS uuid), 40, '0', 'x')"
    admin.run(batch, id=campaign.id)  # one batch is there, the next one is lost with its transaction
    admin.run("BEGIN")
    admin.run(batch, id=campaign.id)
    admin.run("ROLLBACK")
    decide(consents, readers[0], purpose, (1, False))

    send(post.url, campaign, told.append, per_minute=100_000, batch=5)

    assert told == [f"campaign {campaign.id}: begins", f"campaign {campaign.id}: goes on"]
    queued = post.queued(campaign)
    assert len(queued) == len(set(queued))
    assert set(queued) >= {reader.user_id for reader in readers[1:]}
    assert post.delivered(campaign) == sorted(reader.email for reader in readers[1:])


def test_two_at_once_are_one(people: People, consents: Consents, post: Post) -> None:
    purpose = consents.of_platform()
    readers = [people.create() for _ in range(5)]
    for reader in readers:
        decide(consents, reader, purpose, (1, True))
    campaign = mail(purpose)

    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(lambda _: send(post.url, campaign, str, batch=7), range(3)))

    assert [each["mailed"] for each in told] == [5, 5, 5]
    assert sorted(post.queued(campaign)) == sorted(reader.user_id for reader in readers)


def test_an_organization_mails_its_members(people: People, alice: Person, consents: Consents, post: Post) -> None:
    purpose = consents.of_organization(alice)
    reader, silent, gone, back = (people.create("viewer", alice.tenant_id) for _ in range(4))
    for person in (reader, gone, back):
        decide(consents, person, purpose, (1, True), organization=alice.tenant_id)
    for person in (gone, back):
        consents.admin.run("DELETE FROM app.members WHERE user_id = :u", u=person.user_id)
    people.join(back.user_id, alice.tenant_id, "viewer")
    campaign = mail(purpose, organization=alice.tenant_id)

    counts = send(post.url, campaign, print)

    assert counts == {"consenting": 1, "mailed": 1, "skipped": 0, "withheld": 0}
    assert post.delivered(campaign) == [reader.email]
    assert silent.email not in post.addressed(campaign.subject)
    events = consents.events(alice.tenant_id, "campaign.%")
    assert [event["action"] for event in events] == ["campaign.started", "campaign.completed"]
    assert events[1]["data"] == {"purpose": purpose, "consenting": 1, "mailed": 1, "skipped": 0}
    with pytest.raises(Refused, match="no such purpose"):
        send(post.url, mail(purpose), print)


def test_there_is_no_campaign_without_marketing(alice: Person, consents: Consents, post: Post) -> None:
    other, own = consents.of_platform(marketing=False), consents.of_organization(alice)
    known = mail(consents.of_platform(), given=uuid.uuid4())
    send(post.url, known, print)
    refusals = [
        (mail(other), "not marketing"),
        (mail("nobody-asks-for-this"), "no such purpose"),
        (mail(own, organization=str(uuid.uuid4())), "no such organization"),
        (mail(own, organization="00000000-0000-4000-8000-000000000001"), "suspended"),
        (mail(known.purpose, subject="a\nBcc: b"), "one line"),
        (mail(known.purpose, subject=""), "one line"),
        (mail(known.purpose, text=" "), "a text has"),
        (mail(known.purpose, given=known.given), "another mail"),
    ]
    for campaign, why in refusals:
        with pytest.raises(Refused, match=why):
            send(post.url, campaign, print)
        assert post.queued(campaign) == []


def test_the_command(stack, vera: Person, consents: Consents, post: Post, tmp_path: Path) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    text = tmp_path / "text"
    text.write_text("Hello")
    subject = f"Hello {uuid.uuid4().hex[:8]}"
    root = str(Path(stack["path"]).parent)
    command = [sys.executable, "-m", "local.campaign", "--purpose", purpose, "--subject", subject, "--root", root]

    dry, sent = (
        subprocess.run([*command, "--text", str(text), *more], capture_output=True, text=True, check=False)
        for more in (["--dry-run"], ["--per-minute", "60000"])
    )

    assert (dry.returncode, json.loads(dry.stdout)) == (0, {"consenting": 1, "mailed": 1, "skipped": 0}), dry.stderr
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout.splitlines()[-1]) == {"consenting": 1, "mailed": 1, "skipped": 0, "withheld": 0}
    assert vera.email not in dry.stdout + dry.stderr + sent.stdout + sent.stderr
    assert post.queued(Campaign(purpose, subject, "Hello", None)) == [vera.user_id]


def test_whose_part_in_an_organization_is_being_erased_gets_no_mail(
    people: People, consents: Consents, alice: Person
) -> None:
    leaving, job = people.create("member", alice.tenant_id), str(uuid.uuid4())

    def may(organization: str | None) -> bool:
        sql = "SELECT platform.may_be_mailed(CAST(:a AS uuid), CAST(:o AS uuid))"
        return bool(consents.admin.run(sql, a=leaving.user_id, o=organization)[0][0])

    assert may(alice.tenant_id)
    assert may(None)
    consents.admin.run("INSERT INTO platform.jobs (id, kind, status) VALUES (:id, 'deletion', 'done')", id=job)
    consents.admin.run(
        "INSERT INTO platform.deletions (job_id, subject_id, tenant_id, requested_by, scope, execute_after, due_at,"
        " receipt_hash, frozen_at) VALUES (:id, :a, :t, :by, 'user', now(), now(), 'x', now())",
        id=job,
        a=leaving.user_id,
        t=alice.tenant_id,
        by=alice.user_id,
    )

    assert not may(alice.tenant_id)
    assert not may(None)


def test_mails_leave_one_after_the_other(people: People, consents: Consents, post: Post) -> None:
    """So many in a minute, over the batches as well."""
    purpose = consents.of_platform()
    for person in (people.create(), people.create(), people.create()):
        consents.give(person, purpose)
    campaign = mail(purpose)

    send(post.url, campaign, print, per_minute=6000, batch=2)

    rows = consents.admin.run(
        "SELECT extract(epoch FROM not_before - lag(not_before) OVER (ORDER BY not_before))::float8"
        " FROM platform.outbox WHERE name = :n ORDER BY not_before",
        n=f"campaign.{campaign.id}",
    )
    assert len(rows) == 3
    assert all(row[0] >= 0.01 for row in rows[1:]), rows


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"", b"x" * 100_001], ids=["none", "no UTF-8", "empty", "long"])
def test_a_file_that_is_no_text(content, tmp_path: Path, monkeypatch, capsys) -> None:
    """Nothing is asked of the database, and nobody is shown a traceback."""
    text = tmp_path / "text"
    if content is not None:
        text.write_bytes(content)
    monkeypatch.setenv("DATABASE_ADMIN_URL", "postgresql://nobody@127.0.0.1:1/context")
    monkeypatch.setattr(sys, "argv", ["campaign", "--purpose", "news", "--subject", "x", "--text", str(text)])

    assert main() == 2

    assert capsys.readouterr().err.startswith("nothing was done: ")


@pytest.mark.parametrize("subject", ["", " ", "two\nlines", "Bcc: a\r\nTo: b", "x" * 201, " " * 200 + "x", "\u202eabc"])
def test_a_subject_that_is_none(subject: str) -> None:
    with pytest.raises(Refused):
        mail("news", subject=subject).check()
