"""A real provider: nanoidp, as its own process, with its own log-in form, discovery, keys and PKCE."""

import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from local.processes import die_with_parent
from tests.auth.support import claims
from tests.auth.test_oidc_log_in import client_secret, links
from tests.conftest import Api, wait_until
from tests.providers import CLIENT, DOMAIN, Browser

PASSWORD = "olga's own password"


@pytest.fixture(scope="module")
def nano(stack: dict[str, Any], provider: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The provider's address; anybody of its users logs in with the one password."""
    folder, issuer = tmp_path_factory.mktemp("nanoidp"), f"http://127.0.0.1:{provider.nano_port}"
    client = {
        "client_id": CLIENT,
        "client_secret": client_secret(stack),
        "redirect_uris": [f"{stack['api']}/v1/auth/oidc/nano/callback"],
        "require_pkce": True,
    }
    server = {"host": "127.0.0.1", "port": provider.nano_port}
    oauth = {"issuer": issuer, "audience": "nano-api", "clients": [client]}
    keys = {"keys_dir": str(folder / "keys")}
    (folder / "settings.yaml").write_text(yaml.safe_dump({"server": server, "oauth": oauth, "jwt": keys}))
    users = {name: {"password": PASSWORD, "email": f"{name}@{DOMAIN}"} for name in ("olga", "peter")}
    (folder / "users.yaml").write_text(yaml.safe_dump({"users": users}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "nanoidp", "--config", str(folder), "--port", str(provider.nano_port)],
            cwd=folder,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(),
        )
        try:
            wait_until(lambda: answers(process, issuer, folder), 60, "nanoidp")
            yield issuer
        finally:
            process.terminate()
            process.wait(10)


def answers(process: subprocess.Popen[bytes], issuer: str, folder: Path) -> bool:
    if process.poll() is not None:
        pytest.fail("nanoidp ended:\n" + (folder / "log").read_text()[-2000:])
    try:
        return requests.get(issuer + "/.well-known/openid-configuration", timeout=2).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def browser(api: Api) -> Browser:
    return Browser(api)


def log_in_there(location: str, user: str, password: str = PASSWORD) -> requests.Response:
    """Fill in the provider's form; its answer, which sends the browser back when the password is right."""
    with requests.Session() as session:
        session.trust_env = False
        form = session.get(location, timeout=10)
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.text))
        fields |= {"username": user, "password": password}
        return session.post(form.url, data=fields, allow_redirects=False, timeout=10)


def through(browser: Browser, api: Api, user: str, query: str = "", **headers: str) -> Any:
    """Leave, log in there, come back."""
    left = browser.get(f"/v1/auth/oidc/nano/start{query}", **headers)
    assert left.status_code == 302, left.text
    back = log_in_there(left.headers["Location"], user)
    assert back.status_code in {302, 303}, back.text
    assert back.headers["Location"].startswith(api.base + "/v1/auth/oidc/nano/callback?")
    return browser.get(back.headers["Location"].removeprefix(api.base))


def test_it_works(browser, api, nano, admin):
    first = through(browser, api, "olga")
    again = through(Browser(api), api, "olga")

    assert first.status_code == 200, first.text
    assert first.json["user"]["email"] == f"olga@{DOMAIN}"
    assert claims(first.json["access_token"])["amr"] == ["fed"]
    assert again.json["user"] == first.json["user"]
    assert again.json["organization"] == first.json["organization"]
    assert [issuer for issuer, _ in links(admin, first.json["user"]["id"])] == [nano]


def test_link_and_step_up(browser, api, nano, alice, people):
    assert through(browser, api, "peter", "?purpose=link", **alice).json == {"status": "linked", "provider": "nano"}
    stale = people.log_in(alice, age_seconds=3600)
    sensitive = {"scope": "me", "dry_run": True}
    assert api.post("/v1/deletions", json=sensitive, headers=stale).json["code"] == "step_up_required"

    answer = through(browser, api, "peter", "?purpose=step_up", **stale)

    assert answer.status_code == 200, answer.text
    fresh = {"Authorization": f"Bearer {answer.json['access_token']}"}
    assert api.post("/v1/deletions", json=sensitive, headers=fresh).status_code == 200


def test_the_wrong_password_there(browser, api, nano):
    left = browser.get("/v1/auth/oidc/nano/start")

    assert log_in_there(left.headers["Location"], "olga", "wrong").status_code not in {302, 303}


def test_its_codes_are_bound_to_the_verifier(browser, api, nano):
    """The code of one try, presented with the state of another: the real provider refuses it."""
    first, second = (browser.get("/v1/auth/oidc/nano/start").headers["Location"] for _ in range(2))
    back = log_in_there(first, "olga").headers["Location"]
    states = [re.search(r"[?&]state=([\w-]+)", location)[1] for location in (first, second)]  # type: ignore[index]

    answer = browser.get(back.removeprefix(api.base).replace(*states))

    assert (answer.status_code, answer.json["code"]) == (401, "oidc_invalid")


def test_a_code_of_nobody(browser, nano):
    asked = browser.start("nano")

    assert browser.come_back(secrets.token_urlsafe(16), asked, "nano").json["code"] == "oidc_invalid"
