"""The first half of the story, which both people go through at the same time: from the registration to the export."""

import time
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from local.demo import proof
from local.demo.client import POLL_SECONDS, SIGNED_URL, VERIFICATION, eventually, fragment
from local.demo.console import Console, short
from local.demo.people import Person
from local.demo.texts import TEXTS

EXPORT_SECONDS = 120
SHORT_LIVED_SECONDS = 60
GRACE_SECONDS = 5
OK, CREATED, ACCEPTED, REDIRECTED, FORBIDDEN = 200, 201, 202, 302, 403


def code(answer: Any) -> str:
    """What an answer says: its status, and the code of a problem."""
    problem = answer.headers.get("Content-Type", "").startswith("application/problem+json")
    return f"{answer.status_code} {answer.json()['code']}" if problem else str(answer.status_code)


def register(console: Console, person: Person) -> None:
    """Ask for an account and finish it with the mailed link."""
    wanted = {
        "email": person.email,
        "password": person.password,
        "display_name": person.name,
        "organization_name": person.organization,
    }
    answer = person.api.post("/v1/auth/register", wanted)
    console.need(answer.status_code == ACCEPTED, person.nick, "registers: 202, a mail will tell", code(answer))
    early = person.api.post("/v1/auth/login", {"email": person.email, "password": person.password})
    console.check(early.status_code != OK, person.nick, "cannot log in before the address is proven", code(early))
    token = fragment(person.mailbox.link(VERIFICATION), "token")
    person.secrets.append(token)
    elsewhere = code(person.api.post("/v1/auth/email/verify", {"token": token}))
    console.check(
        elsewhere == "401 password_required",
        person.nick,
        "the mailed link alone, in another browser, opens nothing",
        elsewhere,
    )
    cookie = SimpleCookie(answer.headers.get("Set-Cookie", ""))
    same_browser = "; ".join(f"{name}={morsel.value}" for name, morsel in cookie.items())
    verified = person.api.post("/v1/auth/email/verify", {"token": token}, Cookie=same_browser)
    console.need(
        verified.status_code == OK,
        person.nick,
        "the same link in the browser of the registration finishes it",
        code(verified),
    )
    person.logged_in(verified.json())
    console.check(
        person.answer["user"]["display_name"] == person.name and person.answer["organization"]["role"] == "owner",
        person.nick,
        f"owns the organization {short(person.answer['organization']['id'])}",
    )
    again = code(person.api.post("/v1/auth/email/verify", {"token": token, "password": person.password}))
    console.check(again.startswith("401"), person.nick, "the link works once", again)


def work(console: Console, person: Person) -> None:
    """Make projects and tasks with difficult texts, and read them back."""
    refused = []
    for number, (name, description) in enumerate(TEXTS):
        project = person.api.post("/v1/projects", {"name": name, "description": description})
        if project.status_code != CREATED:
            refused.append(f"{number}: {code(project)}")
            continue
        id = project.json()["id"]
        person.projects.append(id)
        person.typed[id] = (name, description)
        title, text = TEXTS[-1 - number]
        task = person.api.post(f"/v1/projects/{id}/tasks", {"title": title, "description": text})
        if task.status_code == CREATED:
            person.tasks.append(task.json()["id"])
            person.typed[task.json()["id"]] = (title, text)
        else:
            refused.append(f"{number}: {code(task)}")
    console.need(
        not refused, person.nick, f"makes {len(person.projects)} projects and {len(person.tasks)} tasks", refused
    )
    shown = {one["id"]: (one["name"], one["description"]) for one in person.api.every("/v1/projects")}
    for id in person.projects:
        listed = person.api.every(f"/v1/projects/{id}/tasks")
        shown |= {one["id"]: (one["title"], one["description"]) for one in listed}
    console.check(
        shown == person.typed,
        person.nick,
        "reads every text back as it was typed: scripts, emoji, markup, SQL, formulas",
    )


def trespass(console: Console, person: Person, other: Person) -> None:
    """Try everything on the other organization's ids."""
    paths = [f"/v1/projects/{id}" for id in other.projects] + [f"/v1/tasks/{id}" for id in other.tasks]
    answers = {code(person.api.get(path)) for path in paths}
    answers |= {
        code(person.api.send(verb, paths[0], body)) for verb, body in (("PATCH", {"name": "x"}), ("DELETE", None))
    }
    answers.add(code(person.api.post(f"/v1/projects/{other.projects[0]}/tasks", {"title": "x"})))
    answers.add(code(person.api.get(f"/v1/projects/{'0' * 8}-0000-4000-8000-{'0' * 12}")))
    console.check(
        answers == {"404 not_found"},
        person.nick,
        f"asks for {len(paths)} things of {other.nick}'s: 404, like what does not exist",
        answers,
    )
    mine = {one["id"] for one in person.api.every("/v1/projects")}
    console.check(mine == set(person.projects), person.nick, "lists own projects and no other")


def log_in_again(console: Console, person: Person) -> None:
    """Log out, log in, refresh, and see what is dead afterwards."""
    old = person.api.token
    person.api.post("/v1/auth/logout")
    dead = code(person.api.get("/v1/auth/me", token=old))
    console.check(dead == "401 invalid_token", person.nick, "logs out: the access token is dead at once", dead)
    wrong = code(person.api.post("/v1/auth/login", {"email": person.email, "password": "not " + person.password}))
    console.check(wrong == "401 invalid_credentials", person.nick, "a wrong password says only that", wrong)
    answer = person.api.post("/v1/auth/login", {"email": person.email, "password": person.password})
    console.need(answer.status_code == OK, person.nick, "logs in again", code(answer))
    person.logged_in(answer.json())
    spent = person.refresh_token
    answer = person.api.post("/v1/auth/refresh", {"refresh_token": spent})
    console.need(
        answer.status_code == OK and answer.json()["refresh_token"] != spent,
        person.nick,
        "refreshes: new tokens, the refresh token is rotated",
        code(answer),
    )
    person.logged_in(answer.json())


def export(console: Console, person: Person) -> None:
    """Ask for a copy of the data and watch it being made."""
    asked = person.api.post("/v1/exports", {"scope": "me", "format": "json"})
    console.need(asked.status_code == ACCEPTED, person.nick, "asks for a copy of the data (Art. 15, 20)", code(asked))
    second = code(person.api.post("/v1/exports", {"scope": "me", "format": "json"}))
    path = f"/v1/exports/{asked.json()['id']}"

    def state() -> dict[str, Any] | None:
        found: dict[str, Any] = person.api.get(path).json()
        console.bar(person.nick, f"export {short(found['id'])}, {found['status']}", found["progress"]["percent"])
        return found if found["status"] not in {"queued", "running"} else None

    person.export = eventually(state, EXPORT_SECONDS, "the export")
    console.need(
        person.export["status"] == "ready" and person.export["progress"]["percent"] == 100,
        person.nick,
        f"export {short(person.export['id'])} is ready: {person.export['size_bytes']} bytes, 100 %",
        person.export,
    )
    quick = second == str(ACCEPTED)  # on a fast machine the first had ended
    console.check(quick or second == "409 export_in_progress", person.nick, "one export at a time", second)


def download(console: Console, person: Person, other: Person) -> str:
    """Download by the mailed link, check the package; the link."""
    link = person.mailbox.link(SIGNED_URL)
    answer = person.api.get(link)
    console.need(answer.status_code == OK, person.nick, "downloads it by the signed link from the mail", code(answer))
    content = answer.content
    package = proof.opened(content)
    export = person.export
    sizes = (len(content), proof.digest(content))
    console.check(
        sizes == (export["size_bytes"], export["sha256"]), person.nick, "size and SHA-256 are those that the API told"
    )
    wrong = proof.wrong_files(package)
    count = len(package.namelist())
    console.check(not wrong, person.nick, f"{count} files, each with the SHA-256 of manifest.json", wrong)
    lost = proof.lost_texts(package, person)
    console.check(
        not lost, person.nick, f"all {2 * len(person.typed)} texts came back byte by byte, nothing else", lost
    )
    inside = proof.everything(package)
    mine, theirs = person.email.encode(), [other.email, other.name, other.user_id, other.projects[0]]
    console.check(mine in inside, person.nick, "the account is in it")
    console.check(not any(one.encode() in inside for one in theirs), person.nick, f"nothing of {other.nick}'s is in it")
    markup = [name for name, _ in TEXTS if name.startswith("<script")]
    page = package.read("index.html")
    console.check(
        not any(one.encode() in page for one in markup), person.nick, "markup in a name stays text on the page"
    )
    return link


def forge(console: Console, person: Person, link: str) -> None:
    """A link with another signature opens nothing."""
    last = link[-1]
    forged = link[:-1] + ("0" if last != "0" else "1")
    answer = person.api.get(forged)
    console.check(answer.status_code == FORBIDDEN, person.nick, "one digit of the signature changed: 403", code(answer))
    fresh = person.api.get(f"/v1/exports/{person.export['id']}/download")
    console.check(fresh.status_code == REDIRECTED, person.nick, "a fresh link is one request away", code(fresh))


def expire(console: Console, person: Person, link: str) -> None:
    """A link whose time is over opens nothing."""
    seconds = int(parse_qs(urlsplit(link).query)["X-Goog-Expires"][0])
    if seconds > SHORT_LIVED_SECONDS:
        console.say(f"links of this stack live for {seconds} s, which the demo does not wait for")
        return
    began = time.monotonic()
    while (refused := person.api.get(link)).status_code == OK and time.monotonic() < began + seconds + GRACE_SECONDS:
        time.sleep(POLL_SECONDS)
    console.check(
        refused.status_code != OK and b"Expired" in refused.content,
        person.nick,
        f"the link's {seconds} s are over (waited {time.monotonic() - began:.0f} s): {refused.status_code}",
        refused.content[:200],
    )
