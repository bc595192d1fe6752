"""Examples for the OpenAPI document: one small story, told by the names of the fields.

A field that the story does not know gets its example on its own line: `fields.String(metadata={"example": "…"})`.
"""

import hashlib
import uuid
from typing import Any

from local.openapi.story import OBJECTS, PEOPLE, WHOLE, WORDS

Json = dict[str, Any]
DEEPEST = 6
MOMENT = "2026-03-02T09:30:00Z"
UNKNOWN = "an example"  # what a test looks for: the story does not know this field
JSON_TYPES = {str: "string", int: "integer", bool: "boolean", dict: "object", list: "array", type(None): "null"}
WRITTEN = ("email", "date", "date-time", "int64", "int32", "uri", "url", "uri-reference")  # ids are computed
SUCCESS = ("200", "201", "202")


def add(document: Json) -> None:
    """Put examples beside the schema of every request, every success and every parameter."""
    schemas = document["components"]["schemas"]
    story = _Story(schemas)
    for operation in (each for item in document["paths"].values() for each in item.values()):
        for parameter in operation["parameters"]:
            if "schema" in parameter:
                parameter.setdefault("example", story.example(parameter["schema"], "", parameter["name"]))
        for holder in (operation.get("requestBody", {}), *map(operation["responses"].get, SUCCESS)):
            content = (holder or {}).get("content", {}).get("application/json")
            if content is not None:
                content["example"] = story.example(content["schema"], "", "")
    for part in (each for schema in schemas.values() for each in schema.get("properties", {}).values()):
        if "example" in part:
            part["examples"] = [part.pop("example")]


class _Story:
    """Values for schemas, given the components that they refer to."""

    def __init__(self, schemas: Json) -> None:
        self._schemas = schemas

    def example(self, schema: Json, owner: str, name: str, depth: int = 0) -> Any:
        """An example of a schema; `name` is the field's and `owner` the component that it stands in."""
        if f"{owner}.{name}" in WORDS and "type" not in schema:
            return WORDS[f"{owner}.{name}"]
        if "$ref" in schema:
            owner = schema["$ref"].rsplit("/", 1)[1]
            if owner in WHOLE:
                return WHOLE[owner]
            return self.example(self._schemas[owner], owner, "", depth)
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return self.example(schema[several][0], owner, name, depth)
        told = self._told(schema, owner, name)
        if told is not None:
            return told[0]
        kinds = schema.get("type", "object")
        return self._made(schema, [kinds] if isinstance(kinds, str) else kinds, owner, name, depth)

    @staticmethod
    def _told(schema: Json, owner: str, name: str) -> tuple[Any] | None:
        """What the schema itself or the story says, in a tuple since it may be null."""
        if "example" in schema:
            return (schema["example"],)
        if "const" in schema:
            return (schema["const"],)
        for known in (f"{owner}.{name}", name):
            if known in WORDS and fits(schema, WORDS[known]):
                return (WORDS[known],)
        return (schema["enum"][0],) if "enum" in schema else None

    def _made(self, schema: Json, kinds: list[str], owner: str, name: str, depth: int) -> Any:
        if "object" in kinds:
            parts = schema.get("properties", {}) if depth < DEEPEST else {}
            return {part: self.example(inner, owner, part, depth + 1) for part, inner in parts.items()}
        if "array" in kinds:
            return [self.example(schema.get("items", {}), owner, name.removesuffix("s"), depth + 1)]
        if "integer" in kinds or "number" in kinds:
            return max(schema.get("minimum", 1), 1)
        if "boolean" in kinds:
            return True
        return {"uuid": identifier(owner, name), "date-time": MOMENT}.get(schema.get("format", ""), UNKNOWN)


def fits(schema: Json, value: Any) -> bool:
    """Whether a word of the story is of the schema's type and among its choices."""
    kinds = schema.get("type", "object")
    kind = JSON_TYPES[type(value)]
    plain = "format" not in schema or schema["format"] in WRITTEN or value is None
    return plain and kind in ([kinds] if isinstance(kinds, str) else kinds) and value in schema.get("enum", [value])


def identifier(owner: str, name: str) -> str:
    """The id of the same thing wherever it is named: `Project.id` is a task's `project_id`."""
    thing = OBJECTS.get(owner, owner.lower()) if name == "id" else name.removesuffix("_id")
    digest = hashlib.sha256(("user" if thing in PEOPLE else thing).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


__all__ = ["UNKNOWN", "add", "identifier"]
