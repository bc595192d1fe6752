"""POST /internal/mails/{id}: what Cloud Tasks delivers, maybe twice."""

import smtplib
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from aiosmtpd.controller import Controller

from common import mail
from common.settings import settings
from local.identity import Issuer
from local.layout import Layout, service_account
from tests.auth.support import refused, register
from tests.conftest import Answer, wait_until


@pytest.fixture
def deliver(stack):
    """Call the route as the service account does whose tokens Cloud Tasks brings."""
    root = Path(stack["path"]).parent
    layout, issuer = Layout.load(root / "layout.json"), Issuer(root)
    address = layout.run_url("auth")

    def post(mail_id, account="tasks"):
        token = issuer.identity_token(service_account(account), address)
        url = f"{address}/internal/mails/{mail_id}"
        return Answer(requests.post(url, headers={"Authorization": f"Bearer {token}"}, timeout=10))

    return post


def outbox(admin, email):
    """The mail of a registration: its id, once it is delivered."""
    found = admin.run(
        "SELECT o.id::text FROM platform.outbox o JOIN identity.registrations r ON r.id = o.reference"
        " WHERE r.email = :e AND o.delivered_at IS NOT NULL",
        e=email,
    )
    return found[0][0] if found else None


def test_a_second_delivery_sends_nothing(api, admin, inbox, deliver):
    newcomer = register(api)
    inbox.wait_for(newcomer.email, "Confirm")
    mail_id = wait_until(lambda: outbox(admin, newcomer.email))

    assert [deliver(mail_id).status_code for _ in range(3)] == [204, 204, 204]
    assert len(inbox.messages(newcomer.email)) == 1


def test_after_a_crash_the_duplicate_can_be_recognized(api, admin, inbox, deliver, stack):
    newcomer = register(api)
    inbox.wait_for(newcomer.email, "Confirm")
    mail_id = wait_until(lambda: outbox(admin, newcomer.email))
    admin.run("UPDATE platform.outbox SET delivered_at = NULL, claimed_until = NULL WHERE id = :m", m=mail_id)

    assert deliver(mail_id).status_code == 204
    wait_until(lambda: len(inbox.messages(newcomer.email)) == 2)
    texts = [path.read_text() for path in Path(stack["mail_dir"]).rglob("*") if path.is_file()]
    assert sum(f"<{mail_id}@example.com>" in text for text in texts) == 2


def test_while_another_delivery_has_it(api, admin, inbox, deliver):
    newcomer = register(api)
    inbox.wait_for(newcomer.email, "Confirm")
    mail_id = wait_until(lambda: outbox(admin, newcomer.email))
    admin.run("UPDATE platform.outbox SET delivered_at = NULL WHERE id = :m", m=mail_id)

    answer = deliver(mail_id)
    assert refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"]


def test_a_registration_that_is_gone_gets_no_mail(api, admin, inbox, deliver):
    newcomer = register(api)
    inbox.wait_for(newcomer.email, "Confirm")
    mail_id = wait_until(lambda: outbox(admin, newcomer.email))
    admin.run("UPDATE platform.outbox SET delivered_at = NULL, claimed_until = NULL WHERE id = :m", m=mail_id)
    admin.run("DELETE FROM identity.registrations WHERE email = :e", e=newcomer.email)

    assert deliver(mail_id).status_code == 204
    assert len(inbox.messages(newcomer.email)) == 1


def test_an_unknown_mail(deliver):
    assert deliver(str(uuid.uuid4())).status_code == 204


def test_only_cloud_tasks_may(deliver, stack, api):
    assert deliver(str(uuid.uuid4()), "projects").status_code == 403
    assert deliver(str(uuid.uuid4()), "gateway").status_code == 403
    assert api.post(f"/internal/mails/{uuid.uuid4()}").status_code == 404


class Server:
    """A mail server with a mind of its own."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.taken: list[bytes] = []
        self.controller: Any = None

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server, session, envelope):
        self.taken.append(envelope.content)
        return "250 OK"


@contextmanager
def serving(monkeypatch, answer="250 OK") -> Iterator[Server]:
    server = Server(answer)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(server, hostname="127.0.0.1", port=port)
    controller.start()
    server.controller = controller
    for name in ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "unused")
    monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{port}")
    monkeypatch.setenv("MAIL_FROM", "no-reply@example.com")
    settings.cache_clear()
    try:
        yield server
    finally:
        if server.controller.server:
            controller.stop()
        settings.cache_clear()


LETTER = mail.Mail("nora@example.org", "Grüße", "plain", "<p>html</p>")


def test_a_message_has_both_parts(monkeypatch):
    with serving(monkeypatch) as server:
        mail.send(LETTER, "7")
    text = server.taken[0].decode()
    assert "multipart/alternative" in text
    assert "text/plain" in text
    assert "text/html" in text
    assert "Message-ID: <7@example.com>" in text


@pytest.mark.parametrize("answer", ["451 later", "421 closing", "530 authentication required", "554 relaying denied"])
def test_a_server_that_refuses_us_is_tried_again(monkeypatch, answer):
    with serving(monkeypatch, answer), pytest.raises(mail.NotSent):
        mail.send(LETTER, "7")


@pytest.mark.parametrize(
    ("url", "tls"), [("smtps://nora%40x@relay:465", "at once"), ("smtp://nora%40x@relay", "STARTTLS")]
)
def test_the_password_is_the_secret_s_and_follows_tls(monkeypatch, tmp_path, url, tls):
    """The URL stands in the environment, so it has none; a relay is told who we are after TLS alone."""
    told = []

    class Relay(smtplib.SMTP):
        def __init__(self, host, port, **more):
            told.append("at once" if "context" in more else "plain")

        def ehlo(self, name=""):
            return 250, b""

        def starttls(self, *, context):
            told.append("STARTTLS")

        def login(self, user, password):
            told.append((user, password))

    (tmp_path / "smtp-password").write_text("word of the relay\n")
    monkeypatch.setattr(smtplib, "SMTP", Relay)
    monkeypatch.setattr(smtplib, "SMTP_SSL", Relay)
    for name in ("SERVICE", "DATABASE_URL", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "unused")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    settings.cache_clear()
    try:
        mail._connect(urlsplit(url))
    finally:
        settings.cache_clear()
    assert told[-2:] == [tls, ("nora@x", "word of the relay")]


def test_a_refused_recipient_is_given_up(monkeypatch):
    with serving(monkeypatch, "550 no such user"), pytest.raises(mail.Undeliverable):
        mail.send(LETTER, "7")


def test_a_server_that_is_gone(monkeypatch):
    with serving(monkeypatch) as server:
        server.controller.stop()
        with pytest.raises(mail.NotSent):
            mail.send(LETTER, "7")


@pytest.mark.parametrize(
    "letter",
    [
        mail.Mail("nora@example.org\r\nBcc: x@example.org", "s", "t", "h"),
        mail.Mail("nora@example.org", "s\r\nBcc: x@example.org", "t", "h"),
        mail.Mail("nora@example.org, x@example.org", "s", "t", "h"),
    ],
)
def test_headers_cannot_be_injected(monkeypatch, letter):
    with serving(monkeypatch) as server:
        with pytest.raises((ValueError, smtplib.SMTPException)):
            mail.send(letter, "7")
        assert server.taken == []
