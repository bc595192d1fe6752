"""The body of a block against the schema: what is unknown, missing, misplaced or of a type that cannot be meant."""

import re
from collections.abc import Iterator, Set
from typing import Any

from tools.terraform.hcl import MARK, Tree, blocks, dynamic, is_block, unquote
from tools.terraform.messages import unknown
from tools.terraform.schema import Block

META = frozenset(
    {"count", "for_each", "provider", "depends_on"}
)  # of every resource, data source and ephemeral resource
META_BLOCKS = {"lifecycle"}  # a provisioner would run commands that no plan shows
LIFECYCLE = {
    "create_before_destroy",
    "prevent_destroy",
    "ignore_changes",
    "replace_triggered_by",
    "precondition",
    "postcondition",
    "destroy",
}
DYNAMIC = 99  # how often a dynamic block stands there: nobody knows
COLLECTIONS = ("list", "set", "tuple")
MAPPINGS = ("map", "object")


def check_body(path: str, body: Tree, schema: Block, meta: Set[str] = frozenset()) -> Iterator[str]:
    """Findings in a body and below it; `meta` are the arguments of Terraform itself, at the top of a resource."""
    if schema.get("open"):
        return
    seen: dict[str, int] = {}
    for key, value in body.items():
        if key == MARK or key in meta or (meta and key in META_BLOCKS and is_block(value)):
            continue
        if not is_block(value):
            yield from _attribute(path, key, value, schema)
        elif key == "dynamic":
            for block in blocks(value):
                label, inner = dynamic(block)
                seen[label] = DYNAMIC
                yield from _dynamic(path, label, inner, schema)
        else:
            seen[key] = len(value)
            for inner in blocks(value):
                yield from _nested(f"{path}.{key}", key, inner, schema)
    yield from _missing(path, body, seen, schema, meta)


def _attribute(path: str, key: str, value: Any, schema: Block) -> Iterator[str]:
    attributes, nested = schema["a"], schema["b"]
    if key not in attributes:
        if key in nested:
            yield f'{path}: "{key}" is a block, not an attribute (drop "=")'
        else:
            yield unknown(f"attribute in {path}:", key, attributes | nested)
        return
    flags, kind = attributes[key]
    if flags == "c":
        yield f'{path}: "{key}" is read-only'
    elif "r" in flags and value is None:
        yield f'{path}: required attribute "{key}" is null'
    if reason := mistyped(value, kind):
        yield f"{path}.{key}: {reason}"


def _dynamic(path: str, label: str, body: Tree, schema: Block) -> Iterator[str]:
    for name in sorted({"for_each", "content"} - set(body)):
        yield f"{path}: dynamic {label} lacks {name}"
    for content in blocks(body.get("content", [])):
        yield from _nested(f"{path}.{label}", label, content, schema)


def _nested(path: str, key: str, body: Tree, schema: Block) -> Iterator[str]:
    attributes, nested = schema["a"], schema["b"]
    if key in nested:
        yield from check_body(path, body, nested[key][3])
    elif key not in attributes:
        yield unknown(f"block in {path.rsplit('.', 1)[0]}:", key, nested)
    elif fields := _fields(attributes[key][1]):  # an attribute of objects may be written as blocks
        for name in sorted(set(body) - {MARK} - set(fields)):
            yield unknown(f"attribute in {path}:", name, fields)
    else:
        yield f'{path}: "{key}" is an attribute, not a block (use "=")'


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a collection of objects."""
    found: dict[str, Any] = kind[-1][1] if isinstance(kind, list) and isinstance(kind[-1], list) else {}
    return found


def _missing(path: str, body: Tree, seen: dict[str, int], schema: Block, meta: Set[str]) -> Iterator[str]:
    for name, (flags, _) in schema["a"].items():
        if "r" in flags and name not in body and name not in seen and name not in meta:
            yield f'{path}: missing required attribute "{name}"'
    for name, (_, least, most, _) in schema["b"].items():
        if least and name not in seen:
            yield f'{path}: missing required block "{name}"'
        if most and 1 < seen.get(name, 0) < DYNAMIC:
            yield f'{path}: block "{name}" may appear only once'


def check_lifecycle(path: str, body: Tree, schema: Block) -> Iterator[str]:
    """Findings in the lifecycle of a resource."""
    for block in blocks(body.get("lifecycle", [])):
        for key in sorted(set(block) - LIFECYCLE - {MARK}):
            yield unknown(f"argument in {path}.lifecycle:", key, LIFECYCLE)
        ignored = block.get("ignore_changes", [])
        if not isinstance(ignored, list):
            yield f"{path}.lifecycle: ignore_changes = all would hide every change"
        for item in ignored if isinstance(ignored, list) else []:
            name = re.match(r"[\w-]+", str(item).removeprefix("${"))
            if name and name[0] not in schema["a"] | schema["b"] and not schema.get("open"):
                yield unknown(f"attribute in {path}.lifecycle.ignore_changes:", name[0], schema["a"])


def mistyped(value: Any, kind: Any) -> str:
    """Why a literal can never become a value of a type; an empty text if it can, or if nobody can tell."""
    want = kind if isinstance(kind, str) else kind[0]
    if value is None or want == "dynamic":
        return ""
    if isinstance(value, str):
        return _mistyped_text(value, want) if value.startswith('"') else ""
    if isinstance(value, list):
        return _mistyped_list(value, kind, want)
    if isinstance(value, dict):
        return _mistyped_map(value, kind, want)
    if want in (*COLLECTIONS, *MAPPINGS):
        return f"{value!r} where a {want} is needed"
    if (want == "bool" and not isinstance(value, bool)) or (want == "number" and isinstance(value, bool)):
        return f"{value!r} is not a {want}"
    return ""


def _mistyped_text(value: str, want: str) -> str:
    text, literal = value[1:-1], "${" not in value and "%{" not in value
    if want in (*COLLECTIONS, *MAPPINGS):
        return "" if re.fullmatch(r"\$\{[^{}]*\}", text) else f"a string where a {want} is needed"
    if literal and want == "number" and not re.fullmatch(r"-?\d+(\.\d+)?([eE]\d+)?", text):
        return f"{value} is not a number"
    return f"{value} is not a bool" if literal and want == "bool" and text not in ("true", "false") else ""


def _mistyped_list(value: list[Any], kind: Any, want: str) -> str:
    if want not in COLLECTIONS:
        return f"a list where a {want} is needed"
    found = ((at, mistyped(item, kind[1])) for at, item in enumerate(value)) if isinstance(kind, list) else ()
    return next((f"[{at}]: {reason}" for at, reason in found if reason), "")


def _mistyped_map(value: Tree, kind: Any, want: str) -> str:
    if want not in MAPPINGS:
        return f"a map where a {want} is needed"
    for key, item in value.items():
        inner = kind[1].get(unquote(key), "dynamic") if want == "object" else kind[1]
        if reason := mistyped(item, inner):
            return f"[{key}]: {reason}"
    return ""
