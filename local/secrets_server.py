"""Secret Manager v1 over gRPC: secrets, versions, checksums, and who may read what."""

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any

import google_crc32c
import grpc
from google.cloud import secretmanager_v1 as api
from google.protobuf.timestamp_pb2 import Timestamp

from functions.keys import policies
from local import grants
from local.identity import Issuer
from local.layout import PROJECT, Layout
from local.secrets_store import (
    DESTROYED,
    DISABLED,
    ENABLED,
    AlreadyThere,
    NotThere,
    NotUsable,
    SecretStore,
    Version,
)
from local.serving import Failure, arguments, guarded, page, rpc, stopped

SERVICE = "google.cloud.secretmanager.v1.SecretManagerService"
LARGEST_PAGE = 25_000


def readable() -> dict[str, set[str]]:
    """The secrets that each service account of the stack may access: those of its catalog entry, else none.

    The account that rotates keys is not among them: it reads and writes versions of all that it turns.
    """
    return grants.secrets()


class Secrets:
    """The methods. Service accounts of the stack hold the accessor role on their own secrets and nothing else, but for
    the catalog's `secret_writer`.
    """

    def __init__(self, layout: Layout) -> None:
        self.issuer = Issuer(layout.root)
        self.store = SecretStore(layout.root)
        self.readable = readable()
        self.writers = grants.having("secret_writer")
        self.written = policies.written()

    def create_secret(self, request: api.CreateSecretRequest, caller: str) -> api.Secret:
        """Make a secret without versions."""
        self._admin(caller, request.parent)
        if not api.Secret.pb(request.secret).HasField("replication"):
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "The secret must have a replication policy.")
        kept = api.Secret(labels=request.secret.labels, replication=request.secret.replication)
        self.store.create(request.secret_id, api.Secret.serialize(kept))
        return self._secret(request.secret_id)

    def get_secret(self, request: api.GetSecretRequest, caller: str) -> api.Secret:
        """The description of a secret."""
        return self._secret(self._admin(caller, request.name)[0])

    def list_secrets(self, request: api.ListSecretsRequest, caller: str) -> api.ListSecretsResponse:
        """All secrets by id."""
        self._admin(caller, request.parent)
        self._no_filter(request.filter)
        ids = self.store.ids()
        part, token = page(ids, request.page_size, request.page_token, LARGEST_PAGE)
        secrets = [self._secret(id) for id in part]
        return api.ListSecretsResponse(secrets=secrets, next_page_token=token, total_size=len(ids))

    def add_version(self, request: api.AddSecretVersionRequest, caller: str) -> api.SecretVersion:
        """Add an enabled version after checking its CRC32C, if one is given."""
        id = self._manager(caller, request.parent)[0]
        self.store.body(id)
        data = request.payload.data
        checked = api.SecretPayload.pb(request.payload).HasField("data_crc32c")
        if checked and request.payload.data_crc32c != google_crc32c.value(data):
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "The payload does not match its CRC32C checksum.")
        version = self._version(self.store.version(id, self.store.add(id, data)))
        version.client_specified_payload_checksum = checked
        return version

    def access_version(self, request: api.AccessSecretVersionRequest, caller: str) -> api.AccessSecretVersionResponse:
        """The payload of an enabled version, with its CRC32C."""
        id, version = self._names(request.name)
        if id not in self.readable.get(caller, {id}) or (caller in self.writers and id not in self.written):
            raise _denied(caller, "secretmanager.versions.access", request.name)
        found = self.store.access(id, version)
        data = found.payload or b""
        payload = api.SecretPayload(data=data, data_crc32c=google_crc32c.value(data))
        return api.AccessSecretVersionResponse(name=_version_name(found), payload=payload)

    def get_version(self, request: api.GetSecretVersionRequest, caller: str) -> api.SecretVersion:
        """The state of a version."""
        return self._version(self.store.version(*self._manager(caller, request.name)))

    def list_versions(self, request: api.ListSecretVersionsRequest, caller: str) -> api.ListSecretVersionsResponse:
        """All versions of a secret, newest first."""
        id = self._manager(caller, request.parent)[0]
        self._no_filter(request.filter)
        versions = self.store.versions(id)
        part, token = page(versions, request.page_size, request.page_token, LARGEST_PAGE)
        shown = [self._version(each) for each in part]
        return api.ListSecretVersionsResponse(versions=shown, next_page_token=token, total_size=len(versions))

    def disable_version(self, request: api.DisableSecretVersionRequest, caller: str) -> api.SecretVersion:
        """Stop access to a version until it is enabled again."""
        return self._version(self.store.set_state(*self._manager(caller, request.name), DISABLED))

    def enable_version(self, request: api.EnableSecretVersionRequest, caller: str) -> api.SecretVersion:
        """Give access to a version again."""
        return self._version(self.store.set_state(*self._manager(caller, request.name), ENABLED))

    def destroy_version(self, request: api.DestroySecretVersionRequest, caller: str) -> api.SecretVersion:
        """Forget a version's payload for good."""
        return self._version(self.store.set_state(*self._manager(caller, request.name), DESTROYED))

    def _admin(self, caller: str, name: str) -> tuple[str, str]:
        """Secrets themselves are an operator's; a writer has their versions (secretVersionManager and accessor)."""
        if caller in self.writers:
            raise _denied(caller, "secretmanager.secrets.*", name)
        return self._manager(caller, name)

    def _manager(self, caller: str, name: str) -> tuple[str, str]:
        names = self._names(name)
        if caller in self.readable or (caller in self.writers and names[0] not in self.written):
            raise _denied(caller, "secretmanager.secrets.*", name)
        return names

    def _names(self, name: str) -> tuple[str, str]:
        """The secret id and version of `projects/P[/secrets/S[/versions/V]]`; empty where the name has none."""
        parts = name.split("/")
        if len(parts) not in (2, 4, 6) or parts[0::2] != ["projects", "secrets", "versions"][: len(parts) // 2]:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "The resource name is not valid.")
        if parts[1] != PROJECT:
            raise _denied("", "secretmanager.secrets.*", name)
        return (parts[3] if len(parts) > 2 else ""), (parts[5] if len(parts) > 4 else "")

    def _no_filter(self, text: str) -> None:
        if text:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "This stand-in knows no filters.")

    def _secret(self, id: str) -> api.Secret:
        created, body = self.store.body(id)
        secret: api.Secret = api.Secret.deserialize(body)
        secret.name = f"projects/{PROJECT}/secrets/{id}"
        secret.create_time = _time(created)
        return secret

    def _version(self, version: Version) -> api.SecretVersion:
        shown = api.SecretVersion(name=_version_name(version), state=version.state, create_time=_time(version.created))
        if version.destroyed is not None:
            shown.destroy_time = _time(version.destroyed)
        return shown


def _version_name(version: Version) -> str:
    return f"projects/{PROJECT}/secrets/{version.id}/versions/{version.version}"


def _denied(caller: str, permission: str, name: str) -> Failure:
    grants.refuse(caller, permission, name)
    message = f"Permission '{permission}' denied for resource '{name}' (or it may not exist)."
    return Failure(grpc.StatusCode.PERMISSION_DENIED, message)


def _time(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1_000_000))
    return stamp


def translated(method: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """A method whose store errors become gRPC answers."""

    @wraps(method)
    def call(request: Any, caller: str) -> Any:
        try:
            return method(request, caller)
        except NotThere as error:
            raise Failure(grpc.StatusCode.NOT_FOUND, f"Secret or version [{error}] not found.") from error
        except AlreadyThere as error:
            raise Failure(grpc.StatusCode.ALREADY_EXISTS, f"Secret [{error}] already exists.") from error
        except NotUsable as error:
            raise Failure(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error
        except ValueError as error:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error

    return call


def handlers(secrets: Secrets) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """The service's methods by name."""
    methods = {
        "CreateSecret": (secrets.create_secret, api.CreateSecretRequest, api.Secret),
        "GetSecret": (secrets.get_secret, api.GetSecretRequest, api.Secret),
        "ListSecrets": (secrets.list_secrets, api.ListSecretsRequest, api.ListSecretsResponse),
        "AddSecretVersion": (secrets.add_version, api.AddSecretVersionRequest, api.SecretVersion),
        "AccessSecretVersion": (
            secrets.access_version,
            api.AccessSecretVersionRequest,
            api.AccessSecretVersionResponse,
        ),
        "GetSecretVersion": (secrets.get_version, api.GetSecretVersionRequest, api.SecretVersion),
        "ListSecretVersions": (secrets.list_versions, api.ListSecretVersionsRequest, api.ListSecretVersionsResponse),
        "DisableSecretVersion": (secrets.disable_version, api.DisableSecretVersionRequest, api.SecretVersion),
        "EnableSecretVersion": (secrets.enable_version, api.EnableSecretVersionRequest, api.SecretVersion),
        "DestroySecretVersion": (secrets.destroy_version, api.DestroySecretVersionRequest, api.SecretVersion),
    }
    return {
        name: guarded(secrets.issuer, translated(method), request, answer)
        for name, (method, request, answer) in methods.items()
    }


async def serve(layout: Layout) -> None:
    """Answer until asked to stop."""
    async with rpc(layout, layout.ports["secrets"], SERVICE, handlers(Secrets(layout))):
        await stopped()


if __name__ == "__main__":
    asyncio.run(serve(arguments(__doc__ or "").parse_args().layout))
