"""Cookies in the place of tokens: what is set, when they count, and what an unsafe request has to show."""

from http.cookies import SimpleCookie
from typing import Any

import pytest

from tests.conftest import PASSWORD, Api, People, Person

NAMES = {"__Host-access", "__Host-refresh", "__Host-csrf"}


def set_cookies(answer: Any) -> dict[str, Any]:
    """Name → morsel of every Set-Cookie line."""
    found: dict[str, Any] = {}
    for line in answer.response.raw.headers.getlist("Set-Cookie"):
        found.update(SimpleCookie(line))
    return found


class Browser:
    """The headers of somebody who is logged in by cookie."""

    def __init__(self, answer: Any) -> None:
        self.jar = {name: morsel.value for name, morsel in set_cookies(answer).items() if morsel.value}

    @property
    def cookie(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.jar.items())}

    @property
    def headers(self) -> dict[str, str]:
        return {**self.cookie, "X-CSRF-Token": self.jar["__Host-csrf"]}


def log_in(api: Api, person: Person) -> Any:
    return api.post("/v1/auth/login?cookies=true", json={"email": person.email, "password": PASSWORD})


@pytest.fixture
def browser(api: Api, alice: Person) -> Browser:
    return Browser(log_in(api, alice))


def refused(answer: Any, status: int, code: str) -> bool:
    return (answer.status_code, answer.json["code"]) == (status, code)


def test_cookies_take_the_tokens_place(api, alice):
    answer = log_in(api, alice)

    assert answer.status_code == 200
    assert answer.json["status"] == "authenticated"
    assert answer.json["user"]["email"] == alice.email
    assert not {"access_token", "refresh_token"} & set(answer.json)
    cookies = set_cookies(answer)
    assert set(cookies) >= NAMES
    for name in NAMES:
        assert (cookies[name]["path"], cookies[name]["domain"]) == ("/", "")
        assert cookies[name]["secure"] is True
        assert cookies[name]["samesite"] == "Lax"
        assert bool(cookies[name]["httponly"]) == (name != "__Host-csrf")
    assert cookies["__Host-access"]["max-age"] == str(answer.json["expires_in"])
    assert cookies["__Host-refresh"]["max-age"] == str(answer.json["refresh_expires_in"])


def test_without_asking_there_are_tokens_and_no_cookies(api, alice):
    for query in ("", "?cookies=false"):
        answer = api.post(f"/v1/auth/login{query}", json={"email": alice.email, "password": PASSWORD})
        assert {"access_token", "refresh_token"} <= set(answer.json)
        assert not NAMES & set(set_cookies(answer))
    assert refused(api.post("/v1/auth/login?cookies=1", json={}), 422, "invalid_request")


def test_a_read_needs_the_cookie_alone(api, alice, browser):
    assert api.get("/v1/auth/me", headers=browser.cookie).json["user"]["id"] == alice.user_id
    assert api.get("/v1/projects", headers=browser.cookie).status_code == 200


@pytest.mark.parametrize("header", ["Bearer x", "Basic YTpi", "Bearer a.b.c", "x"])
def test_an_authorization_header_even_a_bad_one_switches_cookies_off(api, browser, header):
    answer = api.get("/v1/auth/me", headers={**browser.headers, "Authorization": header})
    assert refused(answer, 401, "invalid_token")


def test_an_unsafe_request_shows_the_csrf_token(api, browser):
    project = {"name": "Atlas"}
    assert refused(api.post("/v1/projects", json=project, headers=browser.cookie), 403, "csrf_failed")
    for wrong in ("", "x", "é".encode(), browser.jar["__Host-csrf"][:-1]):
        answer = api.post("/v1/projects", json=project, headers={**browser.cookie, "X-CSRF-Token": wrong})
        assert refused(answer, 403, "csrf_failed"), wrong
    assert api.post("/v1/projects", json=project, headers=browser.headers).status_code == 201


def test_a_cookie_that_somebody_planted_is_not_enough(api, people, browser):
    """Header and cookie agree, but the value belongs to another log-in: double submit alone would let it pass."""
    other = Browser(log_in(api, people.create("owner", password=PASSWORD)))
    browser.jar["__Host-csrf"] = other.jar["__Host-csrf"]
    assert refused(api.post("/v1/projects", json={"name": "x"}, headers=browser.headers), 403, "csrf_failed")
    browser.jar["__Host-csrf"] = "planted"
    assert refused(api.post("/v1/projects", json={"name": "x"}, headers=browser.headers), 403, "csrf_failed")


def test_the_header_without_its_cookie_is_not_enough(api, browser):
    token = browser.jar.pop("__Host-csrf")
    answer = api.post("/v1/projects", json={"name": "x"}, headers={**browser.cookie, "X-CSRF-Token": token})
    assert refused(answer, 403, "csrf_failed")


def test_every_unsafe_method_is_asked(api, browser):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=browser.headers).json["id"]
    path = f"/v1/projects/{project}"
    assert refused(api.patch(path, json={"name": "x"}, headers=browser.cookie), 403, "csrf_failed")
    assert refused(api.delete(path, headers=browser.cookie), 403, "csrf_failed")
    assert api.request("HEAD", path, headers=browser.cookie).status_code == 200
    assert api.delete(path, headers=browser.headers).status_code == 204


def test_csrf_comes_after_the_credential_and_before_the_permission(api, people, alice):
    vera = people.create("viewer", alice.tenant_id, password=PASSWORD)
    browser = Browser(log_in(api, vera))
    assert refused(api.post("/v1/projects", json={}, headers=browser.cookie), 403, "csrf_failed")
    assert refused(api.post("/v1/projects", json={}, headers=browser.headers), 403, "permission_denied")
    api.post("/v1/auth/logout", headers=browser.headers)
    assert refused(api.post("/v1/projects", json={}, headers=browser.cookie), 401, "invalid_token")


def test_a_bearer_needs_no_csrf_token(api, alice, browser):
    both = {**alice, **browser.cookie}
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=both).status_code == 201


def test_refresh_by_cookie(api, browser):
    assert refused(api.post("/v1/auth/refresh", headers=browser.cookie), 403, "csrf_failed")
    answer = api.post("/v1/auth/refresh", headers=browser.headers)
    assert answer.status_code == 200
    assert not {"access_token", "refresh_token"} & set(answer.json), "what came in a cookie goes into a cookie"
    renewed = Browser(answer)
    assert renewed.jar["__Host-refresh"] != browser.jar["__Host-refresh"]
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=renewed.headers).status_code == 201


def test_a_refused_refresh_spends_nothing(api, browser):
    api.post("/v1/auth/refresh", headers=browser.cookie)
    with_header = {**browser.headers, "Authorization": "Bearer x"}
    assert refused(api.post("/v1/auth/refresh", headers=with_header), 401, "invalid_token")
    assert refused(api.post("/v1/auth/refresh"), 401, "invalid_token")
    assert api.post("/v1/auth/refresh", headers=browser.headers).status_code == 200


def test_the_body_s_refresh_token_goes_before_the_cookie(api, alice, browser):
    tokens = api.post("/v1/auth/login", json={"email": alice.email, "password": PASSWORD}).json
    answer = api.post("/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]}, headers=browser.cookie)
    assert answer.status_code == 200
    assert answer.json["refresh_token"] != tokens["refresh_token"]
    answer = api.post("/v1/auth/refresh?cookies=true", json={"refresh_token": answer.json["refresh_token"]})
    assert set(set_cookies(answer)) >= NAMES
    assert "refresh_token" not in answer.json


@pytest.mark.parametrize("path", ["/v1/auth/logout", "/v1/auth/logout-all"])
def test_log_out_deletes_the_cookies(api, browser, path):
    assert refused(api.post(path, headers=browser.cookie), 403, "csrf_failed")
    answer = api.post(path, headers=browser.headers)
    assert answer.status_code == 204
    cookies = set_cookies(answer)
    assert {name for name in NAMES if cookies[name]["max-age"] == "0" and not cookies[name].value} == NAMES
    assert refused(api.get("/v1/auth/me", headers=browser.cookie), 401, "invalid_token")
    assert refused(api.post("/v1/auth/refresh", headers=browser.headers), 401, "invalid_token")


def test_switch_by_cookie(api, people: People, alice, browser):
    other = people.organization()
    people.join(alice.user_id, other, "viewer")
    answer = api.post("/v1/auth/switch", json={"organization_id": other}, headers=browser.headers)
    assert answer.status_code == 200
    assert "access_token" not in answer.json
    there = Browser(answer)
    assert api.get("/v1/auth/me", headers=there.cookie).json["organization"]["id"] == other
    mixed = {**there.cookie, "X-CSRF-Token": browser.jar["__Host-csrf"]}
    assert refused(api.post("/v1/auth/logout", headers=mixed), 403, "csrf_failed")


def test_step_up_by_cookie(api, browser):
    answer = api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=browser.headers)
    assert answer.status_code == 200
    assert "access_token" not in answer.json
    assert "__Host-access" in set_cookies(answer)


def test_only_an_access_token_counts_in_a_cookie(api):
    for value in ("ctx_00000000_" + "0" * 43 + "_00000000", "x", ""):
        assert refused(api.get("/v1/auth/me", headers={"Cookie": f"__Host-access={value}"}), 401, "invalid_token")
