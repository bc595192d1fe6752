"""The OpenAPI document that is served is the one that the route tables give; its examples fit its schemas."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from local.gateway import template_document
from local.openapi.examples import UNKNOWN
from local.openapi.files import TARGET, document

DOCUMENT: dict[str, Any] = json.loads(TARGET.read_text())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}
HERE = "urn:document"
REGISTRY = Registry().with_resource(HERE, Resource.from_contents(DOCUMENT, DRAFT202012))


def test_it_is_current() -> None:
    assert TARGET.read_text() == document(), "run: python -m local.openapi"


def test_it_is_valid() -> None:
    validate(DOCUMENT)


def anchored(part: Any) -> Any:
    """The part with its references made absolute, so that it can stand alone."""
    if isinstance(part, dict):
        return {key: HERE + value if key == "$ref" else anchored(value) for key, value in part.items()}
    return [anchored(value) for value in part] if isinstance(part, list) else part


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    found: Any = DOCUMENT
    for step in part["$ref"].split("/")[1:] if "$ref" in part else ():
        found = found[step]
    return found if "$ref" in part else part


def wrong(schema: Any, value: Any) -> list[str]:
    validator = OAS31Validator(anchored(schema), registry=REGISTRY, format_checker=oas31_format_checker)
    return [error.message for error in validator.iter_errors(value)]


def samples(operation: dict[str, Any]) -> list[tuple[Any, Any]]:
    """(schema, example) of every parameter, body, answer and header of an operation."""
    parameters = [resolved(parameter) for parameter in operation["parameters"]]
    answers = [resolved(answer) for answer in operation["responses"].values()]
    headers = [resolved(header) for answer in answers for header in answer["headers"].values()]
    found = [(part["schema"], part["example"]) for part in (*parameters, *headers)]
    for holder in (operation.get("requestBody", {}), *answers):
        for kind, media in holder.get("content", {}).items():
            if kind == "application/json":
                found.append((media["schema"], media["example"]))
            found += [(media["schema"], resolved(example)["value"]) for example in media.get("examples", {}).values()]
    return found


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_examples_fit(operation: dict[str, Any]) -> None:
    found = samples(operation)
    assert len(found) > 3
    assert [(example, wrong(schema, example)) for schema, example in found if wrong(schema, example)] == []


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_examples_are_known(operation: dict[str, Any]) -> None:
    places = [place for _, example in samples(operation) for place in unknown("", example)]
    assert places == [], "tell local/openapi/story.py a value for this field, or its own line: metadata example"


def unknown(place: str, example: Any) -> Iterator[str]:
    """Where in an example stands what nobody told a value for."""
    inner = example.items() if isinstance(example, dict) else enumerate(example) if isinstance(example, list) else ()
    for name, value in inner:
        yield from unknown(f"{place}.{name}", value)
    if example == UNKNOWN:
        yield place


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_refusal_tells_its_codes(operation: dict[str, Any]) -> None:
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            media = resolved(answer)["content"]["application/problem+json"]
            codes = media["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert codes
            assert list(media["examples"]) == codes
            assert wrong(media["schema"], {"code": codes[0], "status": int(status) + 1})


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_answer_says_what_it_is(operation: dict[str, Any]) -> None:
    """A success either has a body that is described, or none."""
    successes = {status: answer for status, answer in operation["responses"].items() if int(status) < 400}
    assert successes
    assert [
        status
        for status, answer in successes.items()
        if ("content" in answer) == (status in {"101", "204", "302", "303", "304"})
    ] == []


def below(place: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all below it, each with its place."""
    schema = resolved(schema)
    yield place, schema
    inner = dict(schema.get("properties", {})) | {"[]": schema.get("items"), "*": schema.get("additionalProperties")}
    inner |= {f"{word} {n}": part for word in ("anyOf", "allOf") for n, part in enumerate(schema.get(word, ()))}
    for name, part in inner.items():
        if isinstance(part, dict) and part:
            yield from below(f"{place}.{name}", part)


BOUNDS = {
    "string": ("maxLength", "enum", "const"),
    "array": ("maxItems",),
    "integer": ("maximum", "enum"),
    "object": ("additionalProperties", "maxProperties"),
}


def unbounded(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", ())
    named = [kinds] if isinstance(kinds, str) else kinds
    if "object" in named and schema.get("additionalProperties") not in (False, None) and "maxProperties" not in schema:
        return True
    return any(not set(BOUNDS[kind]) & set(schema) for kind in named if kind in BOUNDS)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_comes_in_is_bounded(operation: dict[str, Any]) -> None:
    """OWASP API4:2023: a length for every text, a number of items for every list; the server itself bounds headers."""
    parameters = [resolved(each) for each in operation["parameters"]]
    given = {each["name"]: each["schema"] for each in parameters if each["in"] != "header"}
    if "requestBody" in operation:
        given["body"] = operation["requestBody"]["content"]["application/json"]["schema"]
    parts = [each for name, schema in given.items() for each in below(name, schema)]
    assert [place for place, schema in parts if unbounded(schema)] == []


def test_the_streams_are_told() -> None:
    """What API Gateway's document cannot hold stands in the public one: an open answer, and a change of protocol."""
    stream, socket = (OPERATIONS[f"GET /v1/sessions/{{session_id}}/{name}"] for name in ("stream", "ws"))
    assert list(stream["responses"]["200"]["content"]) == ["text/event-stream"]
    assert {"$ref": "#/components/parameters/LastEventId"} in stream["parameters"]
    assert "204" in stream["responses"]
    assert "101" in socket["responses"]
    assert "200" not in socket["responses"]


def test_the_gateway_passes_what_the_document_tells() -> None:
    """Every address but those of sessions, which go to GKE, with every method; and a last one for all others."""
    passed = template_document()
    validate(passed)
    public = {re.sub(r"{\w+}", "{}", path) for path in DOCUMENT["paths"] if not path.startswith("/v1/sessions")}
    assert {re.sub(r"{\w+}", "{}", path) for path in passed["paths"]} == public | {"/{}"}
    backends = passed["x-google-api-management"]["backends"]
    for item in passed["paths"].values():
        assert set(item) == {"get", "head", "post", "put", "patch", "delete", "options"}
        assert {operation["x-google-backend"] for operation in item.values()} <= set(backends)
