"""Identities at providers: linked by somebody who is signed in, used to step up, listed, removed, exported, erased."""

import secrets
import time
from typing import Any

import pytest

from tests.auth.support import claims, events
from tests.auth.test_oidc_log_in import give_factor, links
from tests.conftest import PASSWORD, Api, Person, wait_until
from tests.providers import Browser

LINK, STEP_UP = "?purpose=link", "?purpose=step_up"
SENSITIVE = {"scope": "me", "dry_run": True}


@pytest.fixture
def browser(api: Api) -> Browser:
    return Browser(api)


def link(browser: Browser, provider: Any, person: Person, subject: str) -> Any:
    asked = browser.start(query=LINK, **person)
    return browser.come_back(provider.grant(asked, sub=subject), asked)


def new_subject() -> str:
    return f"subject-{secrets.token_hex(8)}"


def by_cookie(api: Api, person: Person) -> tuple[Browser, str]:
    """A browser that is logged in by cookies, and its CSRF token."""
    browser = Browser(api)
    answer = api.post("/v1/auth/login?cookies=true", json={"email": person.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    for line in answer.response.raw.headers.getlist("Set-Cookie"):
        name, _, value = line.partition(";")[0].partition("=")
        browser.cookies[name] = value
    return browser, browser.cookies["__Host-csrf"]


def test_it_works(browser, provider, admin, alice, inbox):
    subject = new_subject()

    answer = link(browser, provider, alice, subject)

    assert answer.status_code == 200, answer.text
    assert answer.json == {"status": "linked", "provider": "honest"}
    assert links(admin, alice.user_id) == [(provider.issuer(), subject)]
    assert [event["action"] for event in events(admin, alice.tenant_id)] == ["identity.linked"]
    assert inbox.wait_for(alice.email, "linked")


def test_a_linked_identity_logs_in_whatever_its_address(browser, provider, alice):
    subject = new_subject()
    link(browser, provider, alice, subject)
    asked = browser.start()

    answer = browser.come_back(provider.grant(asked, sub=subject, email="x@elsewhere.example"), asked)

    assert answer.json["user"]["id"] == alice.user_id


def test_linking_again_changes_nothing(browser, provider, admin, alice):
    subject = new_subject()
    for _ in range(2):
        assert link(browser, provider, alice, subject).status_code == 200

    assert len(links(admin, alice.user_id)) == 1


def test_the_identity_of_somebody_else_stays_theirs(browser, provider, admin, alice, mallory):
    subject = new_subject()
    link(browser, provider, alice, subject)

    answer = link(browser, provider, mallory, subject)

    assert (answer.status_code, answer.json["code"]) == (409, "oidc_already_linked")
    assert links(admin, mallory.user_id) == []
    assert links(admin, alice.user_id) == [(provider.issuer(), subject)]


def test_linking_needs_a_fresh_proof(browser, people, alice):
    stale = people.log_in(alice, age_seconds=3600)

    answer = browser.get(f"/v1/auth/oidc/honest/start{LINK}", **stale)

    assert (answer.status_code, answer.json["code"]) == (403, "step_up_required")


@pytest.mark.parametrize("purpose", [LINK, STEP_UP])
def test_what_needs_a_person_needs_her_token(browser, purpose):
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Bearer ctx_a_b_c"}):
        answer = browser.get(f"/v1/auth/oidc/honest/start{purpose}", **headers)
        assert answer.status_code == 401, answer.text
    assert browser.cookies == {}


def test_a_page_of_another_site_cannot_begin_a_link(api, provider, admin, alice):
    """Cookies alone go along with a link on any page: it takes what only our own pages can read."""
    browser, csrf = by_cookie(api, alice)

    for headers in ({}, {"X-CSRF-Token": "x"}):
        answer = browser.get(f"/v1/auth/oidc/honest/start{LINK}", **headers)
        assert (answer.status_code, answer.json["code"]) == (403, "csrf_failed")

    subject = new_subject()
    asked = browser.start(query=f"{LINK}&cookies=true&return_to=/app", **{"X-CSRF-Token": csrf})
    answer = browser.come_back(provider.grant(asked, sub=subject), asked)
    assert answer.status_code == 303
    assert links(admin, alice.user_id) == [(provider.issuer(), subject)]


def test_a_link_ends_with_the_log_in_that_began_it(browser, provider, admin, api, alice):
    asked = browser.start(query=LINK, **alice)
    assert api.post("/v1/auth/logout", headers=alice).status_code == 204

    answer = browser.come_back(provider.grant(asked, sub=new_subject()), asked)

    assert (answer.status_code, answer.json["code"]) == (401, "invalid_token")
    assert links(admin, alice.user_id) == []


def test_a_link_that_was_begun_in_another_browser(browser, provider, api, admin, alice, mallory):
    """Mallory begins to link in her browser and has Alice's finish it, or the other way round: neither works."""
    asked = browser.start(query=LINK, **mallory)
    victim = Browser(api)
    victim.start()

    answer = victim.come_back(provider.grant(asked, sub=new_subject()), asked)

    assert (answer.status_code, answer.json["code"]) == (400, "oidc_state_invalid")
    assert links(admin, mallory.user_id) == links(admin, alice.user_id) == []


STALE: dict[str, Any] = {
    "before": -3600,
    "a little before": -120,
    "ahead": 3600,
    "no number": "now",
    "a yes": True,
    "a fraction": 0.5,
}


class TestStepUp:
    """Step-up at the provider, for people without a password."""

    @pytest.fixture
    def person(self, browser, provider, people, alice):
        """Somebody with a linked identity whose last proof is an hour old."""
        self.subject = new_subject()
        link(browser, provider, alice, self.subject)
        return people.log_in(alice, age_seconds=3600)

    def sent(self, browser: Browser, person: Person) -> dict[str, str]:
        return browser.start(query=STEP_UP, **person)

    def test_it_works(self, browser, provider, api, admin, person):
        assert api.post("/v1/deletions", json=SENSITIVE, headers=person).json["code"] == "step_up_required"
        asked = self.sent(browser, person)
        assert (asked["max_age"], asked["prompt"]) == ("0", "login")

        answer = browser.come_back(provider.grant(asked, sub=self.subject), asked)

        assert answer.status_code == 200, answer.text
        assert set(answer.json) == {"access_token", "expires_in"}
        told = claims(answer.json["access_token"])
        assert told["sid"] == person.session_id
        assert time.time() - told["auth_time"] < 30
        fresh = {"Authorization": f"Bearer {answer.json['access_token']}"}
        assert api.post("/v1/deletions", json=SENSITIVE, headers=fresh).status_code == 200
        assert events(admin, person.tenant_id)[-1]["action"] in {"login.stepped_up", "access.denied"}
        assert "login.stepped_up" in [event["action"] for event in events(admin, person.tenant_id)]

    @pytest.mark.parametrize("at", STALE.values(), ids=STALE)
    def test_the_log_in_there_is_not_fresh(self, browser, provider, admin, person, at):
        asked = self.sent(browser, person)
        auth_time = int(time.time()) + at if type(at) is int else at

        answer = browser.come_back(provider.grant(asked, sub=self.subject, auth_time=auth_time), asked)

        assert (answer.status_code, answer.json["code"]) == (401, "oidc_invalid")
        assert self.age(admin, person) > 3000

    def test_the_provider_does_not_say_when(self, browser, provider, admin, person):
        asked = self.sent(browser, person)

        answer = browser.come_back(provider.grant(asked, sub=self.subject, without=("auth_time",)), asked)

        assert (answer.status_code, answer.json["code"]) == (401, "oidc_invalid")

    def age(self, admin: Any, person: Person) -> float:
        rows = admin.run(
            "SELECT extract(epoch FROM now() - auth_time) FROM identity.login_sessions WHERE id = :s",
            s=person.session_id,
        )
        return float(rows[0][0])

    def test_somebody_else_there(self, browser, provider, admin, mallory, person):
        other = new_subject()
        link(browser, provider, mallory, other)
        for subject in (other, new_subject()):
            asked = self.sent(browser, person)
            answer = browser.come_back(provider.grant(asked, sub=subject), asked)
            assert (answer.status_code, answer.json["code"]) == (403, "oidc_not_linked")

        assert self.age(admin, person) > 3000
        event = events(admin, person.tenant_id)[-1]
        assert (event["action"], event["outcome"]) == ("login.step_up_failed", "failure")

    def test_who_has_a_factor_steps_up_with_it(self, browser, provider, admin, person):
        asked = self.sent(browser, person)
        give_factor(admin, person)

        answer = browser.come_back(provider.grant(asked, sub=self.subject), asked)
        assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")
        again = browser.get(f"/v1/auth/oidc/honest/start{STEP_UP}", **person)
        assert (again.status_code, again.json["code"]) == (403, "permission_denied")
        assert self.age(admin, person) > 3000

    def test_by_cookie(self, api, provider, admin, alice):
        browser, csrf = by_cookie(api, alice)
        subject = new_subject()
        asked = browser.start(query=LINK, **{"X-CSRF-Token": csrf})
        browser.come_back(provider.grant(asked, sub=subject), asked)
        before = browser.cookies["__Host-access"]

        asked = browser.start(query=f"{STEP_UP}&cookies=true&return_to=/app")
        answer = browser.come_back(provider.grant(asked, sub=subject), asked)

        assert answer.status_code == 303
        assert browser.cookies["__Host-access"] != before
        assert browser.get("/v1/auth/me").json["user"]["id"] == alice.user_id


def test_the_list(browser, provider, api, alice, mallory):
    subject = new_subject()
    link(browser, provider, alice, subject)

    found = api.get("/v1/auth/identities", headers=alice).json

    assert found["next_cursor"] is None
    [item] = found["items"]
    assert (item["provider"], item["issuer"], item["subject"]) == ("honest", provider.issuer(), subject)
    assert api.get("/v1/auth/identities", headers=mallory).json["items"] == []


def test_removing_a_link(browser, provider, api, admin, alice, mallory, people):
    subject = new_subject()
    link(browser, provider, alice, subject)
    path = f"/v1/auth/identities/{api.get('/v1/auth/identities', headers=alice).json['items'][0]['id']}"

    assert api.delete(path, headers=mallory).status_code == 404
    assert api.delete(path, headers=people.log_in(alice, age_seconds=3600)).json["code"] == "step_up_required"
    assert api.delete(path, headers=alice).status_code == 204
    assert api.delete(path, headers=alice).status_code == 404

    assert links(admin, alice.user_id) == []
    assert events(admin, alice.tenant_id)[-1]["action"] == "identity.unlinked"
    asked = browser.start()
    assert browser.come_back(provider.grant(asked, sub=subject), asked).json["code"] == "oidc_not_linked"


def test_erasure_removes_the_links_and_says_so(browser, provider, api, admin, alice):
    link(browser, provider, alice, new_subject())
    plan = api.post("/v1/deletions", json=SENSITIVE, headers=alice).json["plan"]
    assert {"table": "identity.federated_identities", "rows": 1, "action": "delete"}.items() <= next(
        entry for entry in plan if entry["table"] == "identity.federated_identities"
    ).items()

    deletion = api.post("/v1/deletions", json={"scope": "me"}, headers=alice).json["id"]

    def certificate() -> Any:
        rows = admin.run("SELECT certificate FROM platform.deletions WHERE job_id = :id", id=deletion)
        return rows[0][0]

    proof = wait_until(certificate, 60, "the certificate")
    assert {"table": "identity.federated_identities", "rows": 1, "action": "delete"} in proof["tables"]
    assert links(admin, alice.user_id) == []


def test_attempts_are_retired(browser, admin, alice):
    browser.start(query=LINK, **alice)
    retire = "SELECT platform.retire('identity.oidc_attempts', 100)"

    admin.run("UPDATE identity.oidc_attempts SET expires_at = now() - interval '23 hours'")
    assert admin.run(retire) == [[0]]
    admin.run("UPDATE identity.oidc_attempts SET expires_at = now() - interval '25 hours'")
    assert admin.run(retire)[0][0] >= 1
    assert admin.run("SELECT count(*) FROM identity.oidc_attempts") == [[0]]
