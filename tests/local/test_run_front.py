"""The front of a Cloud Run service: who may call it, and what it does to the token."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.identity import Issuer
from local.layout import service_account
from tests.local.gateway_stack import Answer, Stack, stack


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("front")) as running:
        yield running


def knock(gateway: Stack, token: str, service: str = "auth", path: str = "/internal/mails/1") -> Answer:
    return gateway.call("POST", path, [("Authorization", f"Bearer {token}")], port=f"run:{service}")


def token_of(gateway: Stack, name: str, service: str = "auth", seconds: int = 3600) -> str:
    return gateway.issuer.identity_token(service_account(name), gateway.layout.run_url(service), seconds)


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_invoker_gets_in_with_path_and_token_untouched(gateway: Stack) -> None:
    token = token_of(gateway, "tasks")
    answer = knock(gateway, token)
    assert (answer.json["service"], answer.json["path"]) == ("auth", "/internal/mails/1")
    assert answer.seen["authorization"] == f"Bearer {token}"


@pytest.mark.parametrize("name", ["workflows", "scheduler", "projects"])
def test_another_account_is_403(gateway: Stack, name: str) -> None:
    refused(knock(gateway, token_of(gateway, name)), 403, "forbidden")


def test_the_gateway_may_not_call_job_services(gateway: Stack) -> None:
    for service in ("exports-jobs", "deletions-jobs", "retention", "keys"):
        refused(knock(gateway, token_of(gateway, "gateway", service), service), 403, "forbidden")


def test_tokens_that_prove_nothing_are_refused(gateway: Stack, tmp_path: Path) -> None:
    audience = gateway.layout.run_url("auth")
    tasks = service_account("tasks")
    good = token_of(gateway, "tasks")
    bad = {
        "expired": token_of(gateway, "tasks", seconds=-3600),
        "another issuer's key": Issuer(tmp_path).identity_token(tasks, audience),
        "a changed signature": good[:-6] + "AAAAAA",
        "no signature": good.rpartition(".")[0] + ".",
        "the platform's marker": good.rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE",
        "nothing": "",
    }
    answers = {what: knock(gateway, token) for what, token in bad.items()}
    assert {what: answer.status for what, answer in answers.items()} == dict.fromkeys(bad, 401)
    refused(answers["expired"], 401, "invalid_token")
    for elsewhere in (token_of(gateway, "tasks", "projects"), gateway.issuer.access_token(tasks)):
        refused(knock(gateway, elsewhere), 403, "forbidden")


def test_a_token_elsewhere_does_not_count(gateway: Stack) -> None:
    token = token_of(gateway, "tasks")
    query = gateway.call("POST", f"/internal/mails/1?access_token={token}", port="run:auth")
    cookie = gateway.call("POST", "/internal/mails/1", [("Cookie", f"token={token}")], port="run:auth")
    doubled = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
    assert query.status == cookie.status == 401
    assert gateway.call("POST", "/internal/mails/1", doubled, port="run:auth").status == 401


def test_health_is_guarded_like_the_rest(gateway: Stack) -> None:
    assert gateway.call("GET", "/health/", port="run:auth").status == 401


def test_the_platform_may_take_the_signature_away(tmp_path: Path) -> None:
    with stack(tmp_path, "--platform-checks-identity", "true") as running:
        token = token_of(running, "tasks")
        seen = knock(running, token).seen["authorization"]
        assert seen == f"Bearer {token.rpartition('.')[0]}.SIGNATURE_REMOVED_BY_GOOGLE"
        through = running.call("GET", "/v1/projects", [("Authorization", "Bearer a.b.c")]).seen
        assert through["authorization"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")
        assert through["x-forwarded-authorization"] == "Bearer a.b.c"
        assert knock(running, token[:-6] + "AAAAAA").status == 401
