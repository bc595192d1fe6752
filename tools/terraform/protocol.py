"""The part of Terraform's plugin protocol, version 6, that planning needs: its messages and its methods over gRPC.

Field numbers are those of the protocol; what is not named here, a peer skips.
"""

from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "tfplugin6"
SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "int32": FieldDescriptorProto.TYPE_INT32,  # an enumeration looks the same on the wire
}
MESSAGES: dict[str, str] = {  # name: "field type number", `*` repeated, `%` a map from strings
    "DynamicValue": "msgpack bytes 1, json bytes 2",
    "Diagnostic": "severity int32 1, summary string 2, detail string 3",
    "Attribute": "name string 1, type bytes 2, required bool 4, optional bool 5, computed bool 6, write_only bool 11",
    "NestedBlock": "type_name string 1, block Block 2, nesting int32 3, min_items int64 4, max_items int64 5",
    "Block": "version int64 1, attributes *Attribute 2, block_types *NestedBlock 3",
    "Schema": "version int64 1, block Block 2",
    "Empty": "",
    "Schemas": "provider Schema 1, resource_schemas %Schema 2, data_source_schemas %Schema 3,"
    " provider_meta Schema 5, ephemeral_resource_schemas %Schema 8",
    "Config": "type_name string 1, config DynamicValue 2",
    "Diagnostics": "diagnostics *Diagnostic 1",
    "Change": "type_name string 1, prior_state DynamicValue 2, proposed_new_state DynamicValue 3,"
    " config DynamicValue 4",
    "Planned": "planned_state DynamicValue 1, diagnostics *Diagnostic 4",
    "State": "state DynamicValue 1, diagnostics *Diagnostic 2",
    "Opened": "diagnostics *Diagnostic 1, result DynamicValue 3",
}
METHODS = {  # method: request, response
    "GetProviderSchema": ("Empty", "Schemas"),
    "ValidateProviderConfig": ("Empty", "Empty"),
    "ValidateResourceConfig": ("Config", "Diagnostics"),
    "ValidateDataResourceConfig": ("Config", "Diagnostics"),
    "ConfigureProvider": ("Config", "Diagnostics"),
    "PlanResourceChange": ("Change", "Planned"),
    "ReadDataSource": ("Config", "State"),
    "ValidateEphemeralResourceConfig": ("Config", "Diagnostics"),
    "OpenEphemeralResource": ("Config", "Opened"),
    "CloseEphemeralResource": ("Config", "Diagnostics"),
    "StopProvider": ("Empty", "Empty"),
}
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


def _field(message: DescriptorProto, text: str) -> None:
    """Add the field `name type number` to a message."""
    name, kind, number = text.split()
    field = message.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind[0] in "*%":
        field.label = FieldDescriptorProto.LABEL_REPEATED
    bare = kind.lstrip("*%")
    if kind.startswith("%"):
        bare = "".join(part.title() for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=bare)
        entry.options.map_entry = True
        _field(entry, "key string 1")
        _field(entry, f"value {kind[1:]} 2")
        bare = f"{message.name}.{bare}"
    field.type = SCALARS.get(bare, FieldDescriptorProto.TYPE_MESSAGE)
    if bare not in SCALARS:
        field.type_name = f".{PACKAGE}.{bare}"


def _messages() -> dict[str, Any]:
    """Message name → class."""
    file = FileDescriptorProto(name="plugin.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(", ")):
            _field(message, text)
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES = _messages()


def message(kind: str, /, **fields: Any) -> Any:
    """A message of this kind."""
    return CLASSES[kind](**fields)


def serve(answers: Mapping[str, Callable[[Any], Any]]) -> tuple[grpc.Server, int]:
    """Serve the methods on a free port of the loopback address; the server, which the caller keeps, and its port."""
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(
            lambda request, _, answer=answer: answer(request),
            request_deserializer=CLASSES[METHODS[method][0]].FromString,
            response_serializer=CLASSES[METHODS[method][1]].SerializeToString,
        )
        for method, answer in answers.items()
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=UNLIMITED)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{PACKAGE}.Provider", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port
