"""Consents that come with a sign-up: kept until the mailbox has answered, and refused for a browser that signals."""

import pytest

from tests.auth.support import PASSWORD, bearer, events, mailed_token, new_address, register
from tests.conftest import Api, Inbox, Person
from tests.consents.conftest import GPC, Consents

BODY = {"password": PASSWORD, "display_name": "Nora Berg", "organization_name": "Fjord Labs"}


def choose(*given: tuple[str, bool]) -> list[dict]:
    return [{"purpose": purpose, "granted": granted} for purpose, granted in given]


def test_it_works(api: Api, inbox: Inbox, consents: Consents) -> None:
    yes, no, terms = consents.of_platform(), consents.of_platform(), consents.of_platform(marketing=False)
    newcomer = register(api, consents=choose((yes, True), (no, False), (terms, True)))
    written = "SELECT count(*) FROM identity.consents WHERE purpose = :p"
    assert consents.admin.run(written, p=yes) == [[0]], "not before the mailbox has answered"
    consents.of_platform("Another", purpose=terms)

    token = mailed_token(inbox, newcomer.email)
    headers = {**newcomer.cookie, "User-Agent": "Browser 2"}
    tokens = api.post("/v1/auth/email/verify", json={"token": token}, headers=headers).json

    me = bearer(tokens)
    assert (consents.mine(me, yes)["granted"], consents.mine(me, no)["granted"]) == (True, False)
    (proof,) = consents.history(me, yes)
    said = (proof["source"], proof["version"], proof["signal"], proof["ip"], proof["user_agent"])
    assert said == ("registration", 1, None, "127.0.0.1", "Browser 2")
    mine = consents.mine(me, terms)
    assert (mine["granted"], mine["version"], mine["current_version"]) == (True, 1, 2), "the text that she was shown"
    found = [each for each in events(consents.admin, tokens["organization"]["id"]) if "consent" in each["action"]]
    assert sorted((each["action"], each["data"]["purpose"]) for each in found) == sorted(
        [("consent.granted", yes), ("consent.refused", no), ("consent.granted", terms)]
    )
    assert {each["data"]["source"] for each in found} == {"registration"}


@pytest.mark.parametrize(("signing_up", "confirming"), [(GPC, {}), ({}, GPC)])
def test_a_browser_that_signals_refuses_marketing(
    api: Api, inbox: Inbox, consents: Consents, signing_up: dict, confirming: dict
) -> None:
    marketing, other = consents.of_platform(), consents.of_platform(marketing=False)
    email = new_address()
    body = {**BODY, "email": email, "consents": choose((marketing, True), (other, True))}
    answer = api.post("/v1/auth/register", json=body, headers=signing_up)
    cookie = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}

    token = mailed_token(inbox, email)
    me = bearer(api.post("/v1/auth/email/verify", json={"token": token}, headers={**cookie, **confirming}).json)

    ((refused,), (agreed,)) = consents.history(me, marketing), consents.history(me, other)
    assert (refused["granted"], refused["signal"]) == (False, "gpc")
    assert (agreed["granted"], agreed["signal"]) == (True, "gpc")
    consents.give(me, marketing, 1, **GPC)
    assert consents.mine(me, marketing)["granted"], "a later yes of hers counts"


def test_an_unknown_purpose_tells_nothing_of_the_address(api: Api, alice: Person, consents: Consents) -> None:
    own = consents.of_organization(alice)
    known = consents.of_platform()

    for unknown in ("nobody-asks-for-this", own):
        answers = [
            api.post(
                "/v1/auth/register", json={**BODY, "email": email, "consents": choose((known, True), (unknown, True))}
            )
            for email in (new_address(), alice.email)
        ]
        assert [answer.status_code for answer in answers] == [422, 422]
        assert answers[0].json["errors"] == answers[1].json["errors"] == {"consents.1.purpose": ["Unknown purpose."]}
        assert answers[0].headers.get("Set-Cookie") is answers[1].headers.get("Set-Cookie") is None


def test_who_says_yes_and_no_has_said_nothing(api: Api, consents: Consents) -> None:
    purpose = consents.of_platform()

    body = {**BODY, "email": new_address(), "consents": choose((purpose, True), (purpose, False))}
    answer = api.post("/v1/auth/register", json=body)

    assert (answer.status_code, list(answer.json["errors"])) == (422, ["consents"])
