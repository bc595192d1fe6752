"""What a plan tells each resource, as reviewed.yaml has it: without its names, and without what an apply makes up."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.terraform.plans import Plan
from tools.terraform.hcl import MARK
from tools.terraform.module import Module
from tools.terraform.schema import Block, load

Leaves = dict[str, Any]
ANYTHING = "*"
SAID = {"description", "display_name", "title", "documentation"}
NAMES = {"id", "name", "account_id", "secret_id", "timeouts"}  # of a resource itself
PLACES = {"project", "location", "region"}  # where they are the environment's own
RIGHTS = re.compile(r"_iam_member\b")  # test_iam.py computes every one of them
MADE_UP = re.compile(r"(?<=/)[0-9a-f]{12}(?=/)")  # tools/terraform/provider.py: for what has no name
ENVIRONMENT = ("alert_mail", "slack_channel", "billing_account", "domain", "project", "environment")
SECRET = {"edge_key", "request_headers"}  # locals whose values only an apply knows, and nobody should see


def told(planned: Plan) -> dict[str, Leaves]:
    """Address → path → value: `settings.ip_configuration.ssl_mode` is REQUIRED."""
    found = {}
    for address in planned.addresses:
        kind = address.split(".")[0]
        if not RIGHTS.search(kind):
            given = _given(planned.resource(address), _block(kind), planned)
            ours = {key for key in PLACES & set(given) if _is_ours(given[key], planned)}
            found[address] = dict(leaves({key: value for key, value in given.items() if key not in ours | NAMES}))
    return found


def written(module: Module) -> dict[str, Leaves]:
    """What stands in no plan, from the files: lifecycles, data, providers, Terraform itself, outputs, secret locals."""
    found: dict[str, Leaves] = {}
    for entry in module.declared["locals"].values():
        found |= {f"local.{name}": {"value": value} for name, value in entry.body.items() if name in SECRET}
    for kind in ("resource", "data", "ephemeral", "provider", "terraform", "output", "import", "removed"):
        for entry in module.declared[kind].values():
            address = entry.address.split("#")[0]
            where = address if kind == "resource" else f"{kind}.{address}".rstrip(".")
            of_plan = {*entry.body} - {"lifecycle"} if kind == "resource" else {"depends_on", "description"}
            body = {key: _plain(value) for key, value in entry.body.items() if key not in of_plan}
            if given := dict(leaves(body)):
                found[where] = given
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path → value of all that is no block; of several blocks each has its name or else its number, one has neither."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for step, inner in _numbered(value):
            yield from leaves(inner, f"{path}{step}")
    elif path:
        yield path, value


def _numbered(items: list[Any]) -> Iterator[tuple[str, Any]]:
    names = [item.get("name") for item in items]
    if len(items) == 1:
        yield "", items[0]
    elif all(isinstance(name, str) for name in names) and len({*names}) == len(names):
        for name, item in zip(names, items, strict=True):
            rest = {key: value for key, value in item.items() if key != "name"}
            yield f"[{name}]", rest["value"] if set(rest) == {"value"} else rest
    else:
        yield from ((f"[{at}]", item) for at, item in enumerate(items))


def differences(address: str, given: Leaves, reviewed: Mapping[str, Any], environment: str) -> Iterator[str]:
    """Where a resource is told something that was not reviewed, or is not told what was."""
    for path in sorted(given.keys() | reviewed.keys()):
        if any(reviewed.get(whole) == ANYTHING for whole in _wholes(path)):
            continue
        expected = _expected(reviewed.get(path), address, environment)
        if (now := given.get(path)) != expected:
            yield f"{address}: {path} is {now!r}, and in reviewed.yaml {expected!r}"


def _wholes(path: str) -> Iterator[str]:
    yield path
    for hit in re.finditer(r"[.\[]", path):
        yield path[: hit.start()]


def _expected(value: Any, address: str, environment: str) -> Any:
    if isinstance(value, dict):
        value = value.get(environment, value.get("production"))
    key = re.search(r'\["(.*)"\]$', address)
    if isinstance(value, list):
        return [_expected(item, address, environment) for item in value]
    return value.replace("<key>", key[1]) if isinstance(value, str) and key else value


def _given(value: Any, block: Block, planned: Plan) -> Any:
    """What the configuration says; an empty block is {"given": True}."""
    if not isinstance(value, dict):
        return value
    given: dict[str, Any] = {}
    for name, inner in value.items():
        if name in SAID:
            continue
        if name in block["b"]:
            items = [item for item in (inner if isinstance(inner, list) else [inner]) if item is not None]
            if items:
                given[name] = [_given(item, block["b"][name][3], planned) or {"given": True} for item in items]
        elif block["a"][name][0] != "c" and inner not in (None, [], {}) and not _is_label(inner):
            given[name] = _neutral(inner, planned)
    return given


def _neutral(value: Any, planned: Plan) -> Any:
    """Without the names of the environment."""
    if isinstance(value, str):
        for name in ENVIRONMENT:
            value = re.sub(rf"(?<!\w){re.escape(planned.variables[name] or '-')}(?!\w)", f"<{name}>", value)
        return MADE_UP.sub("…", value)
    if isinstance(value, list):
        return [_neutral(item, planned) for item in value]
    return {key: _neutral(item, planned) for key, item in value.items()} if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key != MARK}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _is_label(value: Any) -> bool:
    return isinstance(value, dict) and "app" in value  # test_claims.py: the providers' default labels


def _is_ours(value: Any, planned: Plan) -> bool:
    return str(value).lower() in (planned.variables["region"], "<project>")


def _block(kind: str) -> Block:
    known = load()
    return next(known[of]["resource"][kind] for of in ("google-beta", "google") if kind in known[of]["resource"])
