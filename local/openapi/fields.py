"""What marshmallow's fields say in JSON Schema beyond what apispec sees: own fields, number formats, patterns."""

import re
from typing import Any

import marshmallow
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import make_schema_key
from marshmallow import fields

from local.openapi.parts import PARAMETERS

Json = dict[str, Any]
BOUNDS: dict[type, Json] = {
    fields.Integer: {"format": "int64"},
    fields.UUID: {"maxLength": 36},
    fields.DateTime: {"maxLength": 64},
}


class Names:
    """Component names: the class's own, with its folder in front when another class took it first."""

    def __init__(self) -> None:
        self.taken: dict[str, object] = {}
        self.said: dict[str, str] = {}  # the first line of each class's docstring

    def __call__(self, schema: marshmallow.Schema | type[marshmallow.Schema] | str) -> str:
        """The name of a schema's component."""
        instance = schema() if isinstance(schema, type) else schema
        if isinstance(instance, str):
            return instance
        key = make_schema_key(instance)
        folder = type(instance).__module__.split(".")[-2:][0].title()
        name = type(instance).__name__ + ("InCookies" if instance.exclude else "")
        candidates = [name, folder + name, *(f"{folder}{name}{number}" for number in range(2, 100))]
        free = next(word for word in candidates if self.taken.get(word, key) == key)
        self.taken[free] = key
        self.said[free] = (type(instance).__doc__ or "").strip().split("\n")[0]
        return free


def teach(plugin: MarshmallowPlugin) -> None:
    """Add what the converter does not know. The plugin must have met its document already."""
    if plugin.converter is None:
        raise AssertionError("the plugin belongs to no document yet")
    for teaching in (own, format_bounds, no_null_default, portable_pattern):
        plugin.converter.add_attribute_function(teaching)  # type: ignore[no-untyped-call]


def own(_converter: Any, field: fields.Field[Any], **_: Any) -> Json:
    """What a field class of ours says about itself, in its attribute `openapi`."""
    said: Json = getattr(field, "openapi", {})
    return said


def format_bounds(_converter: Any, field: fields.Field[Any], **_: Any) -> Json:
    """Integers are JSON numbers of 64 bits, and what has a format has a length."""
    return next((bounds for kind, bounds in BOUNDS.items() if isinstance(field, kind)), {})


def no_null_default(_converter: Any, field: fields.Field[Any], ret: Json, **_: Any) -> Json:
    """A default of null says no more than that the field may be absent."""
    if "default" in ret and ret["default"] is None:
        del ret["default"]
    return {}


def portable_pattern(_converter: Any, field: fields.Field[Any], ret: Json, **_: Any) -> Json:
    """Python's pattern, matched from the start, in the dialect of JSON Schema (ECMA-262)."""
    if "pattern" not in ret:
        return {}
    pattern = re.sub(r"\\Z", "$", ret["pattern"]).replace(r"\A", "^")
    return {"pattern": pattern if pattern.startswith("^") else f"^(?:{pattern})"}


def tidy_parameters(document: Json) -> None:
    """A parameter means something; one of a query may be absent, never null."""
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    for parameter in (each for operation in operations for each in operation["parameters"] if "name" in each):
        thing = parameter["name"].removesuffix("_id").replace("_", " ")
        means = PARAMETERS.get(parameter["name"], f"The id of the {thing}.")
        if parameter["name"] in PARAMETERS or parameter["name"].endswith("_id"):
            parameter.setdefault("description", means)
        schema = parameter.get("schema", {})
        if isinstance(schema.get("type"), list):
            schema["type"] = next(kind for kind in schema["type"] if kind != "null")
        if "enum" in schema:
            schema["enum"] = [choice for choice in schema["enum"] if choice is not None]
