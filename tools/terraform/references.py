"""What expressions refer to: variables, locals, resources and their attributes, functions."""

import re
from collections.abc import Iterator, Set

from tools.terraform.hcl import Entry
from tools.terraform.messages import unknown
from tools.terraform.module import Module, block_of
from tools.terraform.schema import Block, Schema

_INDEX = r"\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]"
_NAME = r"\.\s*([A-Za-z_][\w-]*|\*|\d+)"
PATH = re.compile(
    r"(?<![\w.\-@:])([A-Za-z_][\w-]*)"
    r"((?:\s*\.\s*(?:[A-Za-z_][\w-]*|\*|\d+)|\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\])+)"
)
STEP = re.compile(f"{_NAME}|{_INDEX}")
LOOP = re.compile(r"\bfor\s+([\w-]+)(?:\s*,\s*([\w-]+))?\s+in\b")
CALL = re.compile(r"(?<![\w.\-:])([a-z_][a-z0-9_]*)\s*\(")
WORDS = {"if", "in", "for", "else"}
FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        """
        abs abspath alltrue anytrue base64decode base64encode base64gunzip base64gzip base64sha256 base64sha512 basename
        bcrypt can ceil chomp chunklist cidrcontains cidrhost cidrnetmask cidrsubnet cidrsubnets coalesce coalescelist
        compact concat contains convert csvdecode dirname distinct element endswith ephemeralasnull file filebase64
        filebase64sha256 filebase64sha512 fileexists filemd5 fileset filesha1 filesha256 filesha512 flatten floor format
        formatdate formatlist indent index issensitive join jsondecode jsonencode keys length log lookup lower map
        matchkeys max md5 merge min nonsensitive one parseint pathexpand plantimestamp pow range regex regexall replace
        reverse rsadecrypt sensitive setintersection setproduct setsubtract setunion sha1 sha256 sha512 signum slice
        sort split startswith strcontains strrev substr sum templatefile templatestring textdecodebase64
        textencodebase64 timeadd timecmp timestamp title tobool tolist tomap tonumber toset tostring transpose trim
        trimprefix trimspace trimsuffix try type upper urldecode urlencode uuid uuidv5 values yamldecode yamlencode
        zipmap optional object list set tuple map
        """,
    )
)
IMPLIED = {"each": ("key", "value"), "count": ("index",), "path": ("module", "root", "cwd")}


def indexed(step: str) -> bool:
    """Whether a step of a path chooses an element, and no attribute."""
    return step in ("[]", "*") or step.isdigit()


def check_uses(module: Module, schema: Schema, entry: Entry) -> Iterator[str]:
    """Findings in the expressions of a block."""
    checker = _References(module, schema)
    for use in entry.uses:
        own = use.scope - set(IMPLIED) | {name for names in LOOP.findall(use.code) for name in names}
        yield from checker.paths(use.code, use.scope, own)
        for called in CALL.findall(use.code):
            if called not in FUNCTIONS | WORDS:
                yield unknown("function", called, FUNCTIONS)


class _References:
    def __init__(self, module: Module, schema: Schema) -> None:
        self._module, self._schema = module, schema
        self._prefixes = {name.split("-")[0] for name in schema}

    def paths(self, code: str, scope: Set[str], own: Set[str]) -> Iterator[str]:
        """Findings in the paths of an expression, which gives some names a meaning of their own."""
        for hit in PATH.finditer(code):
            if hit[1] not in own:
                yield from self._path(hit[1], [step[1] or "[]" for step in STEP.finditer(hit[2])], scope)
            yield from self.paths(hit[2], scope, own)

    def _path(self, root: str, steps: list[str], scope: Set[str]) -> Iterator[str]:
        first = steps[0]
        if root in IMPLIED:
            yield from self._implied(root, first, scope)
        elif root in ("var", "local"):
            known = self._module.declared["variable"] if root == "var" else self._module.locals
            if first not in known:
                yield unknown("variable" if root == "var" else "local", first, known)
        elif root in ("data", "ephemeral"):
            yield from self._made(root, steps)
        elif root.split("_")[0] in self._prefixes and "_" in root:
            yield from self._made("resource", [root, *steps])

    def _implied(self, root: str, first: str, scope: Set[str]) -> Iterator[str]:
        if first == "[]" and root != "path":
            return
        if first not in IMPLIED[root]:
            yield unknown(f"attribute of {root}", first, IMPLIED[root])
        elif root != "path" and root not in scope:
            yield f"{root}.{first} used without {'for_each' if root == 'each' else 'count'}"

    def _made(self, kind: str, steps: list[str]) -> Iterator[str]:
        """A resource, a data source or an ephemeral resource: type, name, and what of it."""
        if len(steps) < 2 or "[]" in steps[:2]:
            return
        address, rest = ".".join(steps[:2]), steps[2:]
        entry = self._module.declared[kind].get(address)
        if entry is None:
            yield unknown(kind, address, self._module.declared[kind])
            return
        block = block_of(self._schema, kind, steps[0], entry.body)
        if not block:
            return
        many = "for_each" if "for_each" in entry.body else "count" if "count" in entry.body else ""
        if many and rest and not indexed(rest[0]):
            yield f"{address} has {many}: index it before .{rest[0]}"
        yield from _walk(address, rest[1:] if many and rest and indexed(rest[0]) else rest, block)


def _walk(address: str, steps: list[str], block: Block) -> Iterator[str]:
    """Follow a path into a resource."""
    for at, step in enumerate(steps):
        if indexed(step):
            continue
        if block.get("open"):
            return
        if step in block["b"]:
            nesting, block = block["b"][step][0], block["b"][step][3]
            after = steps[at + 1] if at + 1 < len(steps) else "[]"
            if nesting in ("list", "set") and not indexed(after):
                yield f"{address}: {step} is a {nesting} of blocks: index it before .{after}"
            continue
        if step not in block["a"]:
            yield unknown(f"attribute of {address}:", step, block["a"] | block["b"])
            return
        fields = _objects(block["a"][step][1])
        if fields is None:
            return
        block = {"a": fields, "b": {}}


def _objects(kind: object) -> dict[str, list[object]] | None:
    """The fields of a list or set of objects, as attributes."""
    match kind:
        case ["list" | "set", ["object", dict(fields)]]:
            return {name: ["c", of_field] for name, of_field in fields.items()}
    return None


def unused(module: Module) -> Iterator[tuple[str, str]]:
    """file:line and name of every variable and local that nothing refers to."""
    used = {(hit[1], hit[2]) for entry in module.every() for use in entry.uses for hit in _heads(use.code)}
    for name, entry in module.declared["variable"].items():
        if ("var", name) not in used:
            yield entry.where, f"var.{name}"
    for name, where in module.locals.items():
        if ("local", name) not in used:
            yield where, f"local.{name}"


def _heads(code: str) -> Iterator[re.Match[str]]:
    return re.finditer(r"(?<![\w.\-])(var|local)\.([\w-]+)", code)
