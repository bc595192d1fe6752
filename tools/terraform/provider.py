"""A provider that knows the schema and nothing else: it lets a real Terraform validate and plan without a cloud.

As of the real provider, what is computed is unknown until it was made. `resolved` makes it up instead, so that a test
can follow a value from where it arises to where it is used: the id of a key named `database` is
`google_kms_crypto_key/database/id`.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgpack

from tools.terraform import protocol
from tools.terraform.schema import Block

NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
WRITE_ONLY = "_wo"  # how the names of arguments end that stand in no state
UNKNOWN = msgpack.ExtType(0, b"\x00")
NAMES = ("name", "account_id", "secret_id", "repository_id", "pool_id", "api_id", "service", "display_name")
KNOWN: dict[str, Any] = {"number": "123456789012", "address": "192.0.2.1", "ip_address": "192.0.2.2"}


def to_block(block: Block) -> Any:
    """The protocol's form of a block of the schema."""
    attributes = [
        protocol.message(
            "Attribute",
            name=name,
            type=json.dumps(kind).encode(),
            required="r" in flags,
            optional="o" in flags,
            computed="c" in flags or not flags,
            write_only=name.endswith(WRITE_ONLY),
        )
        for name, (flags, kind) in block["a"].items()
    ]
    nested = [
        protocol.message(
            "NestedBlock",
            type_name=name,
            block=to_block(inner),
            nesting=NESTING[nesting],
            min_items=0 if nesting == "single" else least,
            max_items=0 if nesting == "single" else most,
        )
        for name, (nesting, least, most, inner) in block["b"].items()
    ]
    return protocol.message("Block", attributes=attributes, block_types=nested)


def made_up(kind: Any, label: str) -> Any:
    """A value of a type, with the label in its texts; lists have one element, so that the first can be asked for."""
    if isinstance(kind, str):
        last = label.rsplit("/", 1)[-1]
        plain: dict[str, Any] = {"string": KNOWN.get(last, label), "number": 1, "bool": False}
        return plain.get(kind)
    if kind[0] == "object":
        return {name: made_up(inner, f"{label}/{name}") for name, inner in kind[1].items()}
    return {} if kind[0] == "map" else [made_up(kind[1], label)]


def decode(value: Any) -> Any:
    return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False)


def encode(value: Any) -> Any:
    return protocol.message("DynamicValue", msgpack=msgpack.packb(value))


class Provider:
    """One provider of the schema, for the types that a configuration names."""

    def __init__(self, schema: dict[str, Any], used: set[str], *, resolved: bool) -> None:
        self._schema, self._used, self._resolved = schema, used, resolved
        self._defaults: dict[str, Any] = {}

    def methods(self) -> dict[str, Callable[[Any], Any]]:
        """Method of the protocol → what answers it."""
        return {
            "GetProviderSchema": self._schemas,
            "ValidateProviderConfig": lambda _: protocol.message("Empty"),
            "ValidateResourceConfig": lambda _: protocol.message("Diagnostics"),
            "ValidateDataResourceConfig": lambda _: protocol.message("Diagnostics"),
            "ValidateEphemeralResourceConfig": lambda _: protocol.message("Diagnostics"),
            "ConfigureProvider": self._configure,
            "PlanResourceChange": self._plan,
            "ReadDataSource": self._read,
            "OpenEphemeralResource": self._open,
            "CloseEphemeralResource": lambda _: protocol.message("Diagnostics"),
            "StopProvider": lambda _: protocol.message("Empty"),
        }

    def _schemas(self, _: Any) -> Any:
        def of(kind: str) -> dict[str, Any]:
            types = self._schema[kind].items()
            return {
                name: protocol.message("Schema", block=to_block(block)) for name, block in types if name in self._used
            }

        meta = {"a": {"module_name": ["o", "string"]}, "b": {}}
        return protocol.message(
            "Schemas",
            provider=protocol.message("Schema", block=to_block(self._schema["config"] or {"a": {}, "b": {}})),
            provider_meta=protocol.message("Schema", block=to_block(meta)),
            resource_schemas=of("resource"),
            data_source_schemas=of("data"),
            ephemeral_resource_schemas=of("ephemeral"),
        )

    def _configure(self, request: Any) -> Any:
        self._defaults = {name: value for name, value in decode(request.config).items() if isinstance(value, str)}
        return protocol.message("Diagnostics")

    def _plan(self, request: Any) -> Any:
        proposed = decode(request.proposed_new_state)
        if proposed is None:  # to be destroyed
            return protocol.message("Planned", planned_state=request.proposed_new_state)
        label = self._label(request.type_name, proposed)
        planned = self._fill(proposed, self._schema["resource"][request.type_name], label)
        self._known_early(request.type_name, planned)
        return protocol.message("Planned", planned_state=encode(planned))

    def _read(self, request: Any) -> Any:
        return protocol.message("State", state=self._found("data", request))

    def _open(self, request: Any) -> Any:
        return protocol.message("Opened", result=self._found("ephemeral", request))

    def _found(self, kind: str, request: Any) -> Any:
        """What was asked for, with everything else made up."""
        asked = decode(request.config)
        label = f"{kind}/{self._label(request.type_name, asked)}"
        return encode(self._fill(asked, self._schema[kind][request.type_name], label, always=True))

    def _label(self, kind: str, value: dict[str, Any]) -> str:
        """`type/name`, and a digest where there is no name."""
        named = next((value[name] for name in NAMES if isinstance(value.get(name), str)), None)
        digest = hashlib.sha256(repr(sorted(value.items(), key=lambda item: item[0])).encode()).hexdigest()[:12]
        return f"{kind}/{named or digest}"

    def _fill(self, value: Any, block: Block, label: str, *, always: bool = False, top: bool = True) -> Any:
        """The object with what is computed: unknown, or made up."""
        if not isinstance(value, dict):
            return value
        filled: dict[str, Any] = {}
        for name, (flags, kind) in block["a"].items():
            given = value.get(name)
            if given is None and "c" in flags:
                given = self._computed(name, flags, kind, f"{label}/{name}", always=always, top=top)
            filled[name] = None if name.endswith(WRITE_ONLY) else given
        for name, (_, _, _, inner) in block["b"].items():
            given = value.get(name)
            if isinstance(given, list):
                given = [self._fill(item, inner, f"{label}/{name}", always=always, top=False) for item in given]
            else:
                given = self._fill(given, inner, f"{label}/{name}", always=always, top=False)
            filled[name] = given
        return filled

    def _computed(self, name: str, flags: str, kind: Any, label: str, *, always: bool, top: bool) -> Any:
        if top and name in ("project", "region", "zone") and name in self._defaults:
            return self._defaults[name]
        if always or (self._resolved and (flags == "c" or name in ("id", "address"))):
            return made_up(kind, label)
        return UNKNOWN

    def _known_early(self, kind: str, planned: dict[str, Any]) -> None:
        """What the real provider, too, knows before it makes anything."""
        account = planned.get("account_id")
        if kind == "google_service_account" and isinstance(account, str) and isinstance(planned.get("project"), str):
            planned["email"] = f"{account}@{planned['project']}.iam.gserviceaccount.com"
            planned["member"] = f"serviceAccount:{planned['email']}"
