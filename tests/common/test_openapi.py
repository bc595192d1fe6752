"""The two OpenAPI documents, from route tables of the shape that functions have."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from marshmallow import Schema, fields
from marshmallow.validate import Regexp
from openapi_spec_validator import validate

from local.openapi.public import gateway, public

AUTH = "https://auth.example"
PROJECTS = "https://projects.example"


class NewProject(Schema):
    name = fields.String(required=True)


class Project(Schema):
    id = fields.UUID()
    name = fields.String()
    version = fields.Integer()


class ProjectPage(Schema):
    items = fields.List(fields.Nested(Project))
    next_cursor = fields.String(allow_none=True)


class Filter(Schema):
    limit = fields.Integer(load_default=50)
    cursor = fields.String()


@dataclass(frozen=True)
class Line:
    method: str
    path: str
    needs: str = "project.view"
    body: type[Schema] | None = None
    query: type[Schema] | None = None
    answers: type[Schema] | None = None
    status: int = 200
    summary: str = "What it does."
    step_up: bool = False
    errors: tuple[str, ...] = ()
    also: tuple[int, type[Schema]] | None = None
    more: tuple[tuple[int, type[Schema] | None], ...] = ()
    tokens: bool = False
    secret: bool = False
    by_scope: tuple[tuple[str, str], ...] = ()
    while_suspended: bool = False
    media: str | None = None

    @property
    def idempotent(self) -> bool:
        return self.method == "POST" and self.needs != "public" and not self.secret

    @staticmethod
    def handler() -> None:
        """What it does.

        And more about it.
        """


@dataclass(frozen=True)
class Table:
    service: str
    routes: list[Line] = field(default_factory=list)


TABLES = [
    Table(
        "auth",
        [
            Line("POST", "/v1/auth/login", needs="public", body=NewProject, tokens=True),
            Line("POST", "/internal/mails/<uuid:outbox_id>", needs="public"),
        ],
    ),
    Table(
        "projects",
        [
            Line("GET", "/v1/projects", query=Filter, answers=ProjectPage),
            Line("POST", "/v1/projects", body=NewProject, answers=Project, status=201, errors=("project_name_taken",)),
            Line("GET", "/v1/projects/<uuid:project_id>", answers=Project),
            Line("DELETE", "/v1/projects/<uuid:project_id>", status=204, step_up=True),
            Line("GET", "/v1/tasks", needs="signed-in"),
        ],
    ),
    Table("sessions", [Line("GET", "/v1/sessions")]),
]


@pytest.fixture
def document() -> dict[str, Any]:
    return public(TABLES)


@pytest.fixture
def gateway_document() -> dict[str, Any]:
    return gateway(TABLES, {"auth": AUTH, "projects": PROJECTS})


def test_both_are_valid_openapi(document: dict[str, Any], gateway_document: dict[str, Any]) -> None:
    validate(document)
    validate(gateway_document)
    assert document["openapi"] == gateway_document["openapi"] == "3.1.0"


def test_public_knows_every_route_but_the_internal_ones(document: dict[str, Any]) -> None:
    listed = {(path, method) for path, item in document["paths"].items() for method in item if method != "parameters"}
    assert ("/v1/sessions", "get") in listed
    assert ("/v1/projects/{project_id}", "get") in listed
    assert not [path for path, _ in listed if path.startswith("/internal")]


def test_an_error_code_stands_under_its_status(document: dict[str, Any]) -> None:
    answer = document["paths"]["/v1/projects"]["post"]["responses"]["409"]
    problem, told = answer["content"]["application/problem+json"]["schema"]["allOf"]
    assert problem == {"$ref": "#/components/schemas/Problem"}
    assert told["properties"]["code"]["enum"] == ["project_name_taken", "idempotency_in_progress"]
    assert told["properties"]["status"] == {"const": 409}
    example = answer["content"]["application/problem+json"]["examples"]["project_name_taken"]
    assert example == {"$ref": "#/components/examples/project_name_taken"}
    assert document["components"]["examples"]["project_name_taken"]["value"]["status"] == 409
    assert "(/docs/errors/project_name_taken)" in answer["description"]


def test_what_the_boundary_answers_stands_once(document: dict[str, Any]) -> None:
    for path in ("/v1/projects", "/v1/projects/{project_id}"):
        assert document["paths"][path]["get"]["responses"]["429"] == {"$ref": "#/components/responses/RateLimited"}
    limited = document["components"]["responses"]["RateLimited"]
    assert {"Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id"} <= set(limited["headers"])


def test_a_code_that_is_not_in_the_closed_list_is_refused() -> None:
    with pytest.raises(KeyError):
        public([Table("auth", [Line("GET", "/v1/auth/me", errors=("no_such_code",))])])


def test_the_health_of_all_is_answered_by_one_service() -> None:
    tables = [Table(name, [Line("GET", "/health/ready", needs="public")]) for name in ("auth", "projects")]
    listed = gateway(tables, {"auth": AUTH, "projects": PROJECTS})
    assert listed["paths"]["/health/ready"]["get"]["x-google-backend"] == "auth"
    assert list(public(tables)["paths"]) == ["/health/ready"]


def choices(operation: dict[str, Any]) -> list[set[str]]:
    return [set(choice) for choice in operation["security"]]


def test_credentials_are_asked_unless_the_route_is_open(document: dict[str, Any]) -> None:
    assert document["paths"]["/v1/auth/login"]["post"]["security"] == []
    assert "401" not in document["paths"]["/v1/auth/login"]["post"]["responses"]
    assert {"401", "403"} <= set(document["paths"]["/v1/projects"]["get"]["responses"])
    assert choices(document["paths"]["/v1/projects"]["get"]) == [{"bearer"}, {"apiKey"}, {"cookie"}]
    assert choices(document["paths"]["/v1/projects"]["post"]) == [{"bearer"}, {"apiKey"}, {"cookie", "csrf"}]


def test_an_api_key_does_not_do_for_a_person(document: dict[str, Any]) -> None:
    assert choices(document["paths"]["/v1/tasks"]["get"]) == [{"bearer"}, {"cookie"}]
    assert choices(document["paths"]["/v1/projects/{project_id}"]["delete"]) == [{"bearer"}, {"cookie", "csrf"}]


class Refresh(Schema):
    refresh_token = fields.String(load_default=None)


def test_a_refresh_takes_its_cookie_or_none() -> None:
    document = public([Table("auth", [Line("POST", "/v1/auth/refresh", needs="public", body=Refresh)])])
    assert choices(document["paths"]["/v1/auth/refresh"]["post"]) == [set(), {"refreshCookie", "csrf"}]


def names(document: dict[str, Any], path: str, method: str) -> set[str]:
    parameters = document["paths"][path][method]["parameters"]
    return {part["name"] if "name" in part else part["$ref"].rsplit("/")[-1] for part in parameters}


def test_headers_and_parameters_follow_the_contract(document: dict[str, Any]) -> None:
    post = document["paths"]["/v1/projects"]["post"]
    assert {"ETag", "Location", "X-Request-Id", "Idempotent-Replayed"} <= set(post["responses"]["201"]["headers"])
    assert "Link" in document["paths"]["/v1/projects"]["get"]["responses"]["200"]["headers"]
    delete = document["paths"]["/v1/projects/{project_id}"]["delete"]
    assert delete["parameters"][0]["schema"] == {"type": "string", "format": "uuid", "maxLength": 36}
    assert "412" in delete["responses"]
    assert names(document, "/v1/projects/{project_id}", "delete") == {"project_id", "RequestId", "IfMatch"}
    assert names(document, "/v1/projects", "post") == {"RequestId", "IdempotencyKey"}
    assert names(document, "/v1/auth/login", "post") == {"RequestId", "cookies"}


def test_a_version_that_nobody_reads_cannot_be_matched() -> None:
    document = public([Table("projects", [Line("DELETE", "/v1/projects/<uuid:project_id>", status=204)])])
    assert names(document, "/v1/projects/{project_id}", "delete") == {"project_id", "RequestId"}
    assert "412" not in document["paths"]["/v1/projects/{project_id}"]["delete"]["responses"]


def test_words_for_people(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/projects"]["post"]
    assert operation["summary"] == "What it does"
    assert "And more about it." in operation["description"]
    assert "`project.view`" in operation["description"]
    assert operation["tags"] == ["Projects"]
    assert all(tag["description"] for tag in document["tags"])


class Odd(Schema):
    """A body."""

    slug = fields.String(required=True, validate=Regexp(r"[a-z]+\Z"))
    due_at = fields.AwareDateTime(load_default=None, allow_none=True)
    oddity = fields.String(metadata={"example": "seen by nobody"})


def test_fields_in_the_words_of_json_schema() -> None:
    document = public([Table("projects", [Line("POST", "/v1/projects", body=Odd)])])
    parts = document["components"]["schemas"]["Odd"]["properties"]
    assert parts["slug"]["pattern"] == "^(?:[a-z]+$)"
    assert "default" not in parts["due_at"]
    example = document["paths"]["/v1/projects"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert example == {"slug": "weber-systems", "due_at": "2026-04-02T09:30:00Z", "oddity": "seen by nobody"}
    assert document["components"]["schemas"]["Odd"]["description"] == "A body."


def test_gateway_passes_every_method_so_that_405_is_the_service(gateway_document: dict[str, Any]) -> None:
    item = gateway_document["paths"]["/v1/projects"]
    assert set(item) == {"get", "head", "post", "put", "patch", "delete", "options"}
    assert {operation["x-google-backend"] for operation in item.values()} == {"projects"}


def test_gateway_knows_neither_internal_routes_nor_sessions(gateway_document: dict[str, Any]) -> None:
    paths = list(gateway_document["paths"])
    assert paths == ["/v1/auth/login", "/v1/projects", "/v1/projects/{project_id}", "/v1/tasks", "/{unknown}"]


def test_unknown_paths_end_at_a_constant_address(gateway_document: dict[str, Any]) -> None:
    operation = gateway_document["paths"]["/{unknown}"]["get"]
    backend = gateway_document["x-google-api-management"]["backends"][operation["x-google-backend"]]
    assert operation["parameters"][0]["x-google-parameter"] == {"pattern": "**"}
    assert backend["address"] == AUTH + "/not-found"
    assert backend["pathTranslation"] == "CONSTANT_ADDRESS"
    assert backend["jwtAudience"] == AUTH


def test_backends_name_address_audience_and_deadline(gateway_document: dict[str, Any]) -> None:
    backend = gateway_document["x-google-api-management"]["backends"]["projects"]
    assert (backend["address"], backend["jwtAudience"], backend["deadline"]) == (PROJECTS, PROJECTS, 15.0)
    assert gateway_document["servers"] == [{"url": "/", "x-google-endpoint": {"allowCors": True}}]


def test_operation_ids_are_unique(gateway_document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in gateway_document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_one_path_cannot_belong_to_two_services() -> None:
    with pytest.raises(ValueError, match="belongs to projects and to auth"):
        gateway(
            [TABLES[1], Table("auth", [Line("GET", "/v1/projects/<uuid:x>")])], {"auth": AUTH, "projects": PROJECTS}
        )
