"""The Twilio stand-in."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from local.layout import Layout

ACCOUNT = "AC" + "0" * 32
FORM = {"To": "+4915112345678", "From": "+15005550006", "Body": "Your code is 123456 ü"}


@pytest.fixture
def send(layout: Layout, start: Any) -> Iterator[Any]:
    url = f"{layout.url('sms')}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    with start("local.sms", layout, "sms"):
        yield lambda auth=(ACCOUNT, "token"), **form: requests.post(url, data=FORM | form, auth=auth, timeout=5)


def lines(layout: Layout) -> list[dict[str, str]]:
    return [json.loads(line) for line in layout.path("sms.jsonl").read_text().splitlines()]


def test_a_message(send: Any, layout: Layout) -> None:
    answer = send()

    assert (answer.status_code, answer.json()["status"], answer.json()["sid"][:2]) == (201, "queued", "SM")
    assert answer.json()["account_sid"] == ACCOUNT
    (line,) = lines(layout)
    assert set(line) == {"to", "body", "at"}
    assert (line["to"], line["body"]) == (FORM["To"], FORM["Body"])


def test_a_messaging_service_may_send(send: Any) -> None:
    assert send(From="", MessagingServiceSid="MG" + "0" * 32).json()["status"] == "accepted"


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"To": "0151 2345"}, 21211),
        ({"To": "+0151234567"}, 21211),
        ({"To": ""}, 21604),
        ({"Body": ""}, 21602),
        ({"From": ""}, 21603),
        ({"Body": "x" * 1601}, 21617),
    ],
)
def test_what_twilio_refuses(send: Any, layout: Layout, form: dict[str, str], code: int) -> None:
    answer = send(**form)

    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (400, code, 400)
    assert lines(layout) == []


@pytest.mark.parametrize("auth", [None, (ACCOUNT, ""), ("", "token")])
def test_credentials_are_needed(send: Any, layout: Layout, auth: Any) -> None:
    answer = send(auth=auth)

    assert (answer.status_code, answer.json()["code"]) == (401, 20003)
    assert lines(layout) == []


def test_messages_survive_a_kill_and_half_a_line_does_not(layout: Layout, start: Any) -> None:
    url = f"{layout.url('sms')}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    with start("local.sms", layout, "sms") as process:
        assert requests.post(url, data=FORM, auth=(ACCOUNT, "t"), timeout=5).status_code == 201
        process.kill()
        process.wait()
    with layout.path("sms.jsonl").open("a") as file:
        file.write('{"to": "+49')
    with start("local.sms", layout, "sms"):
        assert requests.post(url, data=FORM, auth=(ACCOUNT, "t"), timeout=5).status_code == 201

    assert [line["to"] for line in lines(layout)] == [FORM["To"]] * 2
