"""The second half of the story: one of the two leaves, and proves that she is gone and that the other is not."""

from typing import Any

from local.demo import proof, traces
from local.demo.client import RECEIPT, eventually, fragment
from local.demo.console import Console, short
from local.demo.people import Person
from local.demo.story import ACCEPTED, code

ERASURE_SECONDS = 180


def step_up(console: Console, person: Person) -> None:
    """A log-in of a while ago is not enough; the password is."""
    refused = code(person.api.post("/v1/deletions", {"scope": "me", "dry_run": True}))
    if refused == "200":
        console.say("the log-in is fresh on this stack, so that no step-up is asked for")
    else:
        console.check(refused == "403 step_up_required", person.nick, "an old log-in may not erase: 403", refused)
    wrong = code(person.api.post("/v1/auth/step-up", {"password": "wrong"}))
    console.check(wrong.startswith("401"), person.nick, "a wrong password does not step up", wrong)
    answer = person.api.post("/v1/auth/step-up", {"password": person.password})
    console.need(answer.status_code == 200, person.nick, "steps up with the password", code(answer))
    person.api.token = answer.json()["access_token"]
    person.secrets.append(person.api.token or "")


def rehearse(console: Console, person: Person) -> None:
    """The dry run tells the plan and changes nothing."""
    before = proof.fingerprint(person)
    answer = person.api.post("/v1/deletions", {"scope": "me", "dry_run": True})
    console.need(answer.status_code == 200, person.nick, "asks what an erasure would do", code(answer))
    plan = answer.json()["plan"]
    for entry in plan:
        console.say(f"{entry['action']:9} {entry['rows']:5} × {entry['table']}")
    rows = {entry["table"]: entry["rows"] for entry in plan if entry["action"] == "delete"}
    expected = {"app.projects": len(person.projects), "app.tasks": len(person.tasks), "identity.accounts": 1}
    console.check(
        {table: rows.get(table) for table in expected} == expected,
        person.nick,
        "the plan counts her projects, her tasks and the account",
        rows,
    )
    console.check(proof.fingerprint(person) == before, person.nick, "the dry run has changed nothing")


def erase(console: Console, person: Person) -> str:
    """Ask for the erasure; see the tokens die; the id of the request."""
    asked = person.api.post("/v1/deletions", {"scope": "me"})
    console.need(asked.status_code == ACCEPTED, person.nick, "asks to be erased (Art. 17)", code(asked))
    id = str(asked.json()["id"])

    def dead() -> str | None:
        answer = person.api.get(f"/v1/deletions/{id}")
        if answer.status_code == 200:
            steps = answer.json()["steps"]
            done = sum(step["status"] == "done" for step in steps)
            console.bar(person.nick, f"erasure {short(id)}", 100 * done // max(1, len(steps)))
            return None
        return code(answer)

    found = eventually(dead, ERASURE_SECONDS, "the end of the tokens")
    console.check(found == "401 invalid_token", person.nick, "her access token is dead", found)
    refreshed = code(person.api.post("/v1/auth/refresh", {"refresh_token": person.refresh_token}))
    console.check(refreshed == "401 invalid_token", person.nick, "her refresh token is dead", refreshed)
    again = code(person.api.post("/v1/auth/login", {"email": person.email, "password": person.password}))
    console.check(again == "401 invalid_credentials", person.nick, "her password opens nothing", again)
    return id


def follow(console: Console, person: Person, id: str) -> None:
    """By the receipt from the last mail, without an account: state and certificate."""
    link = person.mailbox.link(RECEIPT, ERASURE_SECONDS)
    receipt = fragment(link, "receipt")
    console.check(id in link, person.nick, "the last mail brings a receipt")
    person.api.token = None

    def over() -> dict[str, Any] | None:
        found: dict[str, Any] = person.api.get(f"/v1/deletions/{id}/status?receipt={receipt}").json()
        return found if found.get("status") in {"completed", "failed"} else None

    status = eventually(over, ERASURE_SECONDS, "the end of the erasure")
    steps = {step["status"] for step in status["steps"]}
    console.need(
        status["status"] == "completed" and steps <= {"done", "skipped"},
        person.nick,
        "the receipt shows without a log-in: completed, every step done",
        status,
    )
    wrong = receipt[:-1] + ("A" if receipt[-1] != "A" else "B")
    refused = code(person.api.get(f"/v1/deletions/{id}/status?receipt={wrong}"))
    console.check(refused == "404 not_found", person.nick, "another receipt shows nothing", refused)
    certify(console, person, person.api.get(f"/v1/deletions/{id}/certificate?receipt={receipt}").json())


def certify(console: Console, person: Person, certificate: dict[str, Any]) -> None:
    """The certificate holds under the published key, and only as it is."""
    keys = person.api.get("/v1/deletions/certificate-keys").json()["keys"]
    hashed, signed = proof.seals(certificate, keys)
    console.check(
        hashed, person.nick, f"certificate: SHA-256 {short(certificate['hash'])}… recomputed by the demo itself"
    )
    console.check(
        signed, person.nick, f"certificate: Ed25519 signature under the public key {short(certificate['key_id'])}…"
    )
    altered = certificate | {"objects_deleted": certificate["objects_deleted"] + 1}
    console.check(
        not any(proof.seals(altered, keys)), person.nick, "certificate: one figure altered, and neither holds"
    )
    rows = {entry["table"]: entry["rows"] for entry in certificate["tables"] if entry["action"] == "delete"}
    counted = (rows.get("app.projects"), rows.get("app.tasks"), rows.get("identity.accounts"))
    console.check(
        counted == (len(person.projects), len(person.tasks), 1), person.nick, "certificate: counts what there was", rows
    )
    console.check(certificate["objects_deleted"] > 0, person.nick, "certificate: her export's files are deleted")
    scan = certificate["scan"]
    console.check(
        scan["hits"] == 0 and scan["places"] > 0,
        person.nick,
        f"certificate: {scan['places']} places searched, no hit",
        scan,
    )
    text = proof.canonical(certificate)
    found = traces.hits(text, identifiers(person))
    console.check(not found, person.nick, "certificate: no personal data in it", found)


def identifiers(person: Person) -> set[bytes]:
    """Every way to write the person's name, address and organization."""
    return {form for text in (person.name, person.email, person.organization) for form in traces.forms(text)}


def present(console: Console, stack: dict[str, Any], *people: Person) -> None:
    """Before: the search finds both, so that finding nothing later means something."""
    dump = traces.dump(stack)
    for person in people:
        found = traces.hits(dump, identifiers(person))
        console.check(found > 0, person.nick, "is found in the dump of the database before anything is erased")


def gone(console: Console, stack: dict[str, Any], person: Person, other: Person) -> None:
    """After: no byte of the erased person is left, and no secret of either is anywhere."""
    dump, places = traces.dump(stack), traces.files(stack)
    needles = identifiers(person)
    left = sorted(needle.decode(errors="replace") for needle in needles if needle in dump.lower())
    console.check(
        not left, person.nick, f"no byte of name, address or organization in the dump ({len(dump)} bytes)", left
    )
    console.check(traces.hits(dump, identifiers(other)) > 0, other.nick, "is still found there by the same search")
    for place, paths in places.items():
        found = traces.where(paths, needles)
        console.check(not found, person.nick, f"nor in {len(paths)} files of {place}", found)
    kept = [path.name for path in places["storage"] if person.export["id"].encode() in str(path).encode()]
    console.check(not kept, person.nick, "no file of her export is left", kept)
    secrets = {secret.lower().encode() for one in (person, other) for secret in one.secrets}
    told = traces.where(places["logs"], secrets)
    console.check(
        not told and not traces.hits(dump, secrets), "both", "no password or token in the logs or the dump", told
    )
    console.say("searched: raw, JSON, URL, HTML, hex, UTF-16 and base64 forms, archives opened")
    console.say("left out: the Maildir (her own mailbox), and dead pages and write-ahead log of PostgreSQL")


def unharmed(console: Console, other: Person, before: str, events: list[dict[str, Any]]) -> None:
    """The other organization has what it had."""
    console.check(proof.fingerprint(other) == before, other.nick, "sees the same account, members, projects and tasks")
    now = proof.chain(other, until=events[-1]["seq"])
    console.check(now == events, other.nick, f"sees the same {len(events)} audit events")
    chain = other.api.get("/v1/audit-events/verify").json()
    console.check(
        chain["valid"] is True, other.nick, f"the audit chain holds: {chain['checked']} events checked", chain
    )
