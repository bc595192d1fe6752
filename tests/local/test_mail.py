"""The mail catcher, by smtplib and over HTTP."""

import mailbox
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
import requests

from local.layout import HOST, Layout

ATTACK = '<p>Hello <b>Bob</b></p><script>fetch("/messages")</script><a href="https://app.test/#token=1">open</a>'


@pytest.fixture
def server(layout: Layout, start: Any) -> Iterator[Any]:
    with start("local.mail", layout, "mail") as process:
        yield process


def letter(subject: str = "Grüße", html: str = "") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Dev Context <no-reply@app.test>"
    message["To"] = "bob@example.test"
    message["Subject"] = subject
    message["Date"] = "Mon, 02 Nov 2026 10:00:00 +0000"
    message.set_content("Hello Bob,\nhttps://app.test/verify#token=abc\n")
    if html:
        message.add_alternative(html, subtype="html")
    return message


def send(layout: Layout, *messages: EmailMessage) -> None:
    with smtplib.SMTP(HOST, layout.ports["smtp"], timeout=5) as smtp:
        for message in messages:
            smtp.send_message(message)


def listed(layout: Layout, query: str = "") -> list[dict[str, str]]:
    found: list[dict[str, str]] = requests.get(f"{layout.url('mail')}/messages{query}", timeout=5).json()
    return found


def test_a_mail_arrives(layout: Layout, server: Any) -> None:
    send(layout, letter())

    (mail,) = listed(layout)
    assert mail["to"] == "bob@example.test"
    assert mail["from"] == "Dev Context <no-reply@app.test>"
    assert mail["subject"] == "Grüße"
    assert mail["text"] == "Hello Bob,\nhttps://app.test/verify#token=abc\n"
    assert mail["date"].startswith("Mon, 02 Nov 2026")
    (stored,) = mailbox.Maildir(layout.path("mail"), create=False)
    assert stored["Delivered-To"] == "bob@example.test"
    assert stored["Return-Path"] == "<no-reply@app.test>"


def test_the_newest_comes_first(layout: Layout, server: Any) -> None:
    send(layout, letter("1"), letter("2"))
    send(layout, letter("3"))

    assert [mail["subject"] for mail in listed(layout)] == ["3", "2", "1"]
    assert [mail["subject"] for mail in listed(layout, "?limit=1")] == ["3"]


def test_one_message_and_its_deletion(layout: Layout, server: Any) -> None:
    send(layout, letter(html=ATTACK))
    url = f"{layout.url('mail')}/messages/{listed(layout)[0]['id']}"

    assert requests.get(url, timeout=5).json()["html"].strip() == ATTACK
    assert requests.delete(url, timeout=5).status_code == 204
    assert requests.delete(url, timeout=5).status_code == 404
    assert listed(layout) == []
    assert list(layout.path("mail", "new").iterdir()) == []


def test_html_of_a_mail_can_run_and_load_nothing(layout: Layout, server: Any) -> None:
    send(layout, letter(html=ATTACK))
    answer = requests.get(f"{layout.url('mail')}/messages/{listed(layout)[0]['id']}/html", timeout=5)
    policy = {one.split()[0]: one.split()[1:] for one in answer.headers["Content-Security-Policy"].split(";")}

    assert answer.headers["Content-Type"].startswith("text/html")
    assert "allow-scripts" not in policy["sandbox"]
    assert "allow-same-origin" not in policy["sandbox"]
    assert policy["default-src"] == ["'none'"]
    assert "script-src" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_runs_its_own_script_only(layout: Layout, server: Any) -> None:
    page = requests.get(layout.url("mail"), timeout=5)
    script = requests.get(layout.url("mail") + "/inbox.js", timeout=5)

    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    assert "<script>" not in page.text
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert "innerHTML" not in script.text


def test_no_other_site_reads_the_mails(layout: Layout, server: Any) -> None:
    """Under a name of its own that leads here (DNS rebinding) it would be of the same origin and could read all."""
    send(layout, letter())
    url = f"{layout.url('mail')}/messages"

    assert requests.get(url, headers={"Host": "evil.example"}, timeout=5).status_code == 421
    assert requests.get(url, headers={"Sec-Fetch-Site": "cross-site"}, timeout=5).status_code == 403
    (mail,) = requests.get(url, headers={"Host": "localhost:1"}, timeout=5).json()
    deleted = requests.delete(f"{url}/{mail['id']}", headers={"Sec-Fetch-Site": "same-site"}, timeout=5)
    assert (deleted.status_code, len(listed(layout))) == (403, 1)


def test_ids_lead_nowhere_else(layout: Layout, server: Any) -> None:
    for key in ("..%2F..%2Flayout.json", "x", "%2e%2e"):
        assert requests.get(f"{layout.url('mail')}/messages/{key}", timeout=5).status_code == 404


def test_strange_mails_do_no_harm(layout: Layout, server: Any) -> None:
    with smtplib.SMTP(HOST, layout.ports["smtp"], timeout=5) as smtp:
        smtp.sendmail("a@example.test", ["b@example.test"], b"Content-Type: text/plain; charset=x-none\r\n\r\nHi \xff")
        smtp.sendmail("a@example.test", ["b@example.test", "c@example.test"], b"no headers at all")
        for header in (b"To: a@[", b'To: c@example.test\r\nFrom: "'):  # Python's parser fails at both
            smtp.sendmail("a@example.test", ["b@example.test"], header + b"\r\n\r\nHi")

    mails = listed(layout)
    told = ["c@example.test", "a@[", "b@example.test, c@example.test", "b@example.test"]
    assert [mail["to"] for mail in mails] == told
    assert (mails[0]["from"], mails[1]["text"]) == ('"', "Hi\n")


def test_mails_survive_a_kill(layout: Layout, start: Any) -> None:
    with start("local.mail", layout, "mail") as process:
        send(layout, letter())
        process.kill()
        process.wait()
    layout.path("mail", "tmp", "half").write_text("Subject: never acknowledged")
    with start("local.mail", layout, "mail"):
        assert [mail["subject"] for mail in listed(layout)] == ["Grüße"]
    assert list(layout.path("mail", "tmp").iterdir()) == []
