"""Requests made from the OpenAPI document, well-formed and not: no server error, and no answer that it does not tell.

Every request is sent by a person of her own, who owns her organization and has just proved who she is, so that none is
spoiled by the one before: log-out, erasure and the rest are called like all others.
"""

import copy
import json
from collections import Counter
from typing import Any

import pytest
import schemathesis
from argon2 import PasswordHasher
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckContext
from schemathesis.specs.openapi import checks

from common.answers import HEADERS
from local.openapi.files import TARGET
from tests.conftest import PASSWORD, Api, People, Person

EXAMPLES = 15
SEED = 20_260_302
REQUEST_ID = "#/components/parameters/RequestId"
GENERAL = {name.lower() for name in HEADERS} | {
    *("content-type", "content-length", "content-encoding", "date", "server", "vary", "allow", "connection"),
    *("transfer-encoding", "access-control-allow-credentials"),
}


def without_request_id(document: dict[str, Any]) -> dict[str, Any]:
    """The document with X-Request-Id at one address only: it is the same at each, and doubles what there is to try."""
    lighter = copy.deepcopy(document)
    for path, item in lighter["paths"].items():
        for operation in item.values() if path != "/v1/projects" else ():
            operation["parameters"] = [each for each in operation["parameters"] if each.get("$ref") != REQUEST_ID]
    return lighter


RAW = json.loads(TARGET.read_text())
DOCUMENT = schemathesis.openapi.from_dict(without_request_id(RAW))
DOCUMENT.config.seed = SEED
DOCUMENT.config.generation.update(deterministic=True, max_examples=EXAMPLES, with_security_parameters=False)
DOCUMENT.config.phases.coverage.unexpected_methods = {"post", "put", "delete"}


def no_undocumented_header(_ctx: CheckContext, response: Any, case: Any) -> None:
    """Every header is one that all answers carry, or stands in the document for this answer."""
    if not checks.is_unexpected_http_status_case(case):
        told = told_headers(case.operation.path, case.operation.method, response.status_code)
        assert {name.lower() for name in response.headers} - told - GENERAL == set()


def told_headers(path: str, method: str, status: int) -> set[str]:
    answer = RAW["paths"][path][method]["responses"].get(str(status), {"headers": {}})
    if "$ref" in answer:
        answer = RAW["components"]["responses"][answer["$ref"].rsplit("/")[-1]]
    return {name.lower() for name in answer["headers"]}


CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.negative_data_rejection,
    no_undocumented_header,
]


MAKERS: dict[str, tuple[str, dict[str, Any]]] = {  # parameter: the POST whose answer has the id
    "project_id": ("/v1/projects", {"name": "Atlas"}),
    "team_id": ("/v1/teams", {"name": "Cartographers"}),
    "role_id": ("/v1/roles", {"name": "surveyor", "permissions": ["project.view"]}),
    "invitation_id": ("/v1/invitations", {"email": "guest@example.org", "role": "viewer"}),
    "key_id": ("/v1/api-keys", {"name": "import", "permissions": ["project.view"]}),
    "factor_id": ("/v1/auth/mfa/factors", {"type": "totp"}),
}
REAL = Counter[str]()


def session(person: Person, api: Api, *, closed: bool) -> str:
    """A session with an event; a stream of one that is closed comes to an end."""
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=person).json["id"]
    made = api.post("/v1/sessions", json={"project_id": project, "title": "Kick-off"}, headers=person).json["id"]
    api.post(f"/v1/sessions/{made}/events", json={"events": [{"type": "said", "data": 1}]}, headers=person)
    if closed:
        api.patch(f"/v1/sessions/{made}", json={"status": "closed"}, headers=person)
    return str(made)


def real_id(name: str, person: Person, api: Api, people: People) -> str | None:
    """The id of an object of the person's, None of a kind that this module cannot make."""
    if name == "user_id":
        return people.create("viewer", person.tenant_id).user_id
    if name == "login_session":
        return person.session_id
    if name == "session":
        return session(person, api, closed=False)
    if name == "closed_session":
        return session(person, api, closed=True)
    if name == "task_id":
        project = api.post("/v1/projects", json={"name": "Atlas"}, headers=person).json["id"]
        return str(api.post(f"/v1/projects/{project}/tasks", json={"title": "Draw"}, headers=person).json["id"])
    if name not in MAKERS:
        return None
    path, body = MAKERS[name]
    answer = api.post(path, json=body, headers=person)
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def kind_of(name: str, path: str) -> str:
    """What a parameter names, where its name alone does not tell."""
    if name != "session_id":
        return name
    if not path.startswith("/v1/sessions"):
        return "login_session"
    return "closed_session" if path.endswith("/stream") else "session"


def lead_somewhere(case: Any, person: Person, api: Api, people: People) -> None:
    """Give every second request that names an object one that exists."""
    REAL[case.operation.label] += 1
    given = set(case.path_parameters or ()) if REAL[case.operation.label] % 2 == 0 else set()
    for name in given & {"user_id", "session_id", "task_id", *MAKERS}:
        case.path_parameters[name] = real_id(kind_of(name, case.operation.path), person, api, people)


@pytest.fixture(scope="module")
def password_hash() -> str:
    """Hashed once: everybody has the same password here."""
    return PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1).hash(PASSWORD)


@DOCUMENT.parametrize()
@settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_no_undocumented_answer(case, stack, people, api, admin, password_hash):
    person = people.create("owner")
    if "/auth/" in case.operation.path:
        admin.run("UPDATE identity.accounts SET password_hash = :h WHERE id = :id", h=password_hash, id=person.user_id)
    lead_somewhere(case, person, api, people)
    case.call_and_validate(base_url=stack["api"], headers=dict(person), checks=CHECKS, allow_redirects=False)
