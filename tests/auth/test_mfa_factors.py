"""GET, POST, DELETE /v1/auth/mfa/factors and …/confirm."""

import base64
import json
import re
import uuid
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from tests.auth.mfa_support import (
    FACTORS,
    WRONG,
    added,
    confirm,
    enrolled,
    first_proof,
    hotp,
    logged_in,
    mailed_code,
    texted_code,
    texts,
)
from tests.auth.support import events, refused

NUMBER = "+4915112345678"


def number():
    """One that no other test texts to."""
    return f"+49151{uuid.uuid4().int % 10**8:08d}"


def factors(api, person):
    return api.get(FACTORS, headers=person).json["items"]


def test_it_works(api, admin, alice):
    answer = api.post(FACTORS, json={"type": "totp"}, headers=alice)

    assert (answer.status_code, answer.json["type"], answer.json["status"]) == (201, "totp", "pending")
    assert set(answer.json) == {"id", "type", "status", "secret", "otpauth_uri", "qr_svg"}
    assert len(base64.b32decode(answer.json["secret"])) == 20
    uri = urlsplit(answer.json["otpauth_uri"])
    assert parse_qs(uri.query)["secret"] == [answer.json["secret"]]
    assert alice.email in uri.path
    assert events(admin, alice.tenant_id)[-1]["action"] == "factor.added"
    assert [(f["id"], f["status"], f["confirmed_at"]) for f in factors(api, alice)] == [
        (answer.json["id"], "pending", None)
    ]


def test_the_picture_is_one_inline_svg_element(api, alice):
    picture = api.post(FACTORS, json={"type": "totp"}, headers=alice).json["qr_svg"]

    root = ElementTree.fromstring(picture)  # noqa: S314 - our own answer
    assert root.tag.endswith("svg")
    assert not re.search(r"<script|href|url\(|<image", picture)


def test_the_first_code_confirms_it(api, admin, alice):
    app = added(api, alice)
    answer = confirm(api, alice, app.factor_id, app.code())

    assert (answer.status_code, set(answer.json)) == (200, {"recovery_codes"})
    codes = answer.json["recovery_codes"]
    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){5}", code) for code in codes)
    assert factors(api, alice)[0]["status"] == "confirmed"
    assert events(admin, alice.tenant_id)[-1]["action"] == "factor.confirmed"
    assert api.get(FACTORS, headers=alice).json["recovery_codes_left"] == 10


def test_recovery_codes_come_once(api, admin, alice):
    _, codes = enrolled(api, admin, alice)
    _, more = enrolled(api, admin, alice)

    assert (len(codes), more) == (10, [])


def test_a_wrong_code_confirms_nothing(api, admin, alice):
    app = added(api, alice)

    assert refused(confirm(api, alice, app.factor_id, WRONG), 401, "invalid_code")
    assert factors(api, alice)[0]["status"] == "pending"
    event = events(admin, alice.tenant_id)[-1]
    assert (event["action"], event["outcome"]) == ("factor.confirmation_failed", "failure")


def test_a_confirmed_factor_is_not_confirmed_again(api, admin, alice):
    app, _ = enrolled(api, admin, alice)

    assert refused(confirm(api, alice, app.factor_id, app.code(1)), 409, "conflict")


def test_adding_and_removing_need_a_fresh_proof(api, admin, people, alice):
    app, _ = enrolled(api, admin, alice)
    stale = people.log_in(alice, age_seconds=3_000)

    assert refused(api.post(FACTORS, json={"type": "totp"}, headers=stale), 403, "step_up_required")
    assert refused(api.delete(f"{FACTORS}/{app.factor_id}", headers=stale), 403, "step_up_required")


def test_a_text_message_brings_the_first_code(api, stack, alice):
    phone = number()
    answer = api.post(FACTORS, json={"type": "sms", "phone": phone}, headers=alice)

    assert (answer.status_code, set(answer.json)) == (201, {"id", "type", "status"})
    assert confirm(api, alice, answer.json["id"], texted_code(stack, phone)).status_code == 200
    hint = factors(api, alice)[0]["hint"]
    assert hint.endswith(phone[-2:])
    assert phone[3:-2] not in hint


def test_a_mail_brings_the_first_code(api, inbox, alice):
    answer = api.post(FACTORS, json={"type": "email"}, headers=alice)

    assert (answer.status_code, set(answer.json)) == (201, {"id", "type", "status"})
    assert confirm(api, alice, answer.json["id"], mailed_code(inbox, alice.email)).status_code == 200
    hint = factors(api, alice)[0]["hint"]
    assert hint == f"{alice.email[0]}…@example.org"


def test_the_person_is_told(api, inbox, admin, alice):
    app, _ = enrolled(api, admin, alice)
    inbox.wait_for(alice.email, "factor was added")
    api.delete(f"{FACTORS}/{app.factor_id}", headers=alice)
    inbox.wait_for(alice.email, "factor was removed")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "hotp"},
        {"type": "sms"},
        {"type": "totp", "phone": NUMBER},
        {"type": "email", "phone": NUMBER},
        {"type": "sms", "phone": "015112345678"},
        {"type": "sms", "phone": "+0151123456"},
        {"type": "sms", "phone": "+49151"},
        {"type": "sms", "phone": "+4915112345678999"},
        {"type": "sms", "phone": "+4915112345678;ext=1"},
        {"type": "sms", "phone": "+49１５１12345678"},
        {"type": "totp", "secret": "GEZDGNBVGY3TQOJQ"},
        {"type": "totp", "status": "confirmed"},
    ],
)
def test_what_is_no_factor(api, alice, body):
    assert refused(api.post(FACTORS, json=body, headers=alice), 422, "invalid_request")


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "１２３４５６", "12345\n"])
def test_what_is_no_code(api, alice, code):
    app = added(api, alice)

    assert refused(confirm(api, alice, app.factor_id, code), 422, "invalid_request")


def test_numbers_are_read_as_people_write_them(api, stack, alice):
    phone = number()
    written = f"{phone[:3]} ({phone[3:6]}) {phone[6:9]}-{phone[9:]}"

    assert api.post(FACTORS, json={"type": "sms", "phone": written}, headers=alice).status_code == 201
    texted_code(stack, phone)


def test_somebody_elses_factor_is_not_there(api, admin, alice, mallory):
    app, _ = enrolled(api, admin, alice)
    waiting = added(api, alice)

    assert factors(api, mallory) == []
    foreign = api.delete(f"{FACTORS}/{app.factor_id}", headers=mallory)
    nowhere = api.delete(f"{FACTORS}/{uuid.uuid4()}", headers=mallory)
    assert refused(foreign, 404, "not_found")
    assert {**foreign.json, "request_id": ""} == {**nowhere.json, "request_id": ""}
    assert refused(confirm(api, mallory, waiting.factor_id, waiting.code()), 404, "not_found")
    assert len(factors(api, alice)) == 2


def test_the_secret_stands_nowhere_in_the_database(api, stack, admin, alice):
    app = added(api, alice)

    dumped = admin.run("SELECT to_json(f)::text FROM identity.mfa_factors f WHERE id = :id", id=app.factor_id)[0][0]
    sealed = json.loads(dumped)["secret"]
    raw = base64.urlsafe_b64decode(sealed.split(".")[2])
    for form in (app.secret, app.secret.hex().encode(), base64.b32encode(app.secret), base64.b64encode(app.secret)):
        assert form not in raw
        assert form not in dumped.encode()


def test_a_sealed_secret_is_of_use_for_its_own_factor_only(api, admin, alice, mallory):
    """Whoever can write to the database, but has no key, cannot give somebody a secret that she knows."""
    app, _ = enrolled(api, admin, alice)
    hers = added(api, mallory)
    admin.run(
        "UPDATE identity.mfa_factors SET secret = (SELECT secret FROM identity.mfa_factors WHERE id = :hers)"
        " WHERE id = :id",
        hers=hers.factor_id,
        id=app.factor_id,
    )
    token = first_proof(api, alice)["mfa_token"]

    answer = api.post("/v1/auth/mfa/verify", json={"mfa_token": token, "factor_id": app.factor_id, "code": hers.code()})
    assert refused(answer, 401, "invalid_code")


def test_with_the_last_factor_go_the_recovery_codes(api, admin, alice):
    first, _ = enrolled(api, admin, alice)
    second, _ = enrolled(api, admin, alice)
    count = "SELECT count(*) FROM identity.mfa_recovery_codes WHERE account_id = :u"

    assert api.delete(f"{FACTORS}/{first.factor_id}", headers=alice).status_code == 204
    assert admin.run(count, u=alice.user_id) == [[10]]
    assert api.delete(f"{FACTORS}/{second.factor_id}", headers=alice).status_code == 204
    assert admin.run(count, u=alice.user_id) == [[0]]
    assert len(enrolled(api, admin, alice)[1]) == 10


def test_of_what_was_never_confirmed_the_newest_stays(api, alice):
    old, new = added(api, alice), added(api, alice)

    assert [f["id"] for f in factors(api, alice)] == [new.factor_id]
    assert refused(confirm(api, alice, old.factor_id, old.code()), 404, "not_found")


def test_there_are_ten_at_most(api, admin, alice):
    for _ in range(10):
        enrolled(api, admin, alice)

    assert refused(api.post(FACTORS, json={"type": "totp"}, headers=alice), 409, "conflict")


def test_the_mailbox_is_one_factor(api, inbox, alice):
    first = api.post(FACTORS, json={"type": "email"}, headers=alice).json
    confirm(api, alice, first["id"], mailed_code(inbox, alice.email))

    assert refused(api.post(FACTORS, json={"type": "email"}, headers=alice), 409, "conflict")


def test_a_waiting_factor_is_not_asked_for(api, admin, alice):
    added(api, alice)
    app, _ = enrolled(api, admin, alice)
    waiting = added(api, alice)

    assert [f["id"] for f in first_proof(api, alice)["factors"]] == [app.factor_id]
    assert waiting.factor_id != app.factor_id
    assert logged_in(api, alice, app)["status"] == "authenticated"


def test_text_messages_count_in_the_lock(api, stack, alice):
    phone = number()
    answers = []
    for number_of_texts in range(1, 8):
        answers.append(api.post(FACTORS, json={"type": "sms", "phone": phone}, headers=alice))
        if answers[-1].status_code == 201:
            texted_code(stack, phone, number_of_texts)  # a code that the next one replaces need not be sent any more

    codes = [answer.status_code for answer in answers]
    assert codes[0] == 201
    assert codes[-1] == 429
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert codes.count(201) <= 5
    assert len(texts(stack, phone)) == codes.count(201)


def test_the_rfc_vectors_are_what_the_app_shows():
    assert [hotp(b"12345678901234567890", n) for n in (0, 1, 9)] == ["755224", "287082", "520489"]
