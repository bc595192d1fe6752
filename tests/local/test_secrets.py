"""Secret Manager through Google's client library, and the files that functions mount."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import google_crc32c
import grpc
import pytest
from google.api_core import exceptions
from google.cloud import secretmanager_v1 as api
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport

from local.identity import Issuer
from local.layout import HOST, PROJECT, Layout, service_account
from local.secrets_store import SecretStore

OPERATOR = service_account("tester")
PARENT = f"projects/{PROJECT}"
SECRET = f"{PARENT}/secrets/mail-key"
ENABLED, DISABLED, DESTROYED = api.SecretVersion.State.ENABLED, api.SecretVersion.State.DISABLED, 3
CLIENT = """
import sys
from google.cloud import secretmanager_v1 as api
client = api.SecretManagerServiceClient(client_options={"api_endpoint": sys.argv[1]})
sys.stdout.buffer.write(client.access_secret_version(name=sys.argv[2]).payload.data)
"""
Client: Any = api.SecretManagerServiceClient


@pytest.fixture
def stack(layout: Layout, start: Any) -> Iterator[Layout]:
    with start("local.secrets_server", layout, "secrets"):
        yield layout


@pytest.fixture
def client(stack: Layout, channel: Callable[[str, str], grpc.Channel]) -> Callable[[str], Any]:
    """A client of Secret Manager with the token of one account."""
    return lambda email: Client(transport=SecretManagerServiceGrpcTransport(channel=channel("secrets", email)))


@pytest.fixture
def operator(client: Callable[[str], Any]) -> Any:
    made = client(OPERATOR)
    make(made, "mail-key")
    return made


def make(client: Any, id: str) -> None:
    client.create_secret({"parent": PARENT, "secret_id": id, "secret": {"replication": {"automatic": {}}}})


def test_it_works(operator: Any, stack: Layout) -> None:
    first = operator.add_secret_version(parent=SECRET, payload={"data": b"one"})
    second = operator.add_secret_version(parent=SECRET, payload={"data": b"two"})

    assert (first.name, second.name, second.state) == (f"{SECRET}/versions/1", f"{SECRET}/versions/2", ENABLED)
    latest = operator.access_secret_version(name=f"{SECRET}/versions/latest")
    assert (latest.name, latest.payload.data) == (second.name, b"two")
    assert latest.payload.data_crc32c == google_crc32c.value(b"two")
    assert operator.access_secret_version(name=first.name).payload.data == b"one"
    assert [each.name for each in operator.list_secret_versions(parent=SECRET)] == [second.name, first.name]
    assert [each.name for each in operator.list_secrets(parent=PARENT)] == [SECRET]
    assert operator.get_secret(name=SECRET).replication.automatic is not None
    assert stack.path("secrets", "mail-key", "latest").read_bytes() == b"two"


def test_the_plain_client_finds_its_way_from_the_environment(operator: Any, stack: Layout, start: Any) -> None:
    operator.add_secret_version(parent=SECRET, payload={"data": b"key"})
    host = f"{HOST}:{stack.ports['metadata:auth']}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": stack.root,
        "GCE_METADATA_HOST": host,
        "GCE_METADATA_IP": host,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(stack.path("tls", "ca.pem")),
    }
    command = [sys.executable, "-c", CLIENT, f"{HOST}:{stack.ports['secrets']}", f"{SECRET}/versions/latest"]
    with start("local.metadata", stack, "metadata:gateway"):
        answer = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30)

    assert answer.stdout == b"key"


def test_a_disabled_version_gives_nothing_until_it_is_enabled(operator: Any, stack: Layout) -> None:
    operator.add_secret_version(parent=SECRET, payload={"data": b"one"})
    operator.add_secret_version(parent=SECRET, payload={"data": b"two"})

    assert operator.disable_secret_version(name=f"{SECRET}/versions/2").state == DISABLED

    for name in ("2", "latest"):  # the alias means the most recently created version, whatever its state
        with pytest.raises(exceptions.FailedPrecondition):
            operator.access_secret_version(name=f"{SECRET}/versions/{name}")
    assert stack.path("secrets", "mail-key", "latest").read_bytes() == b"one"
    assert operator.enable_secret_version(name=f"{SECRET}/versions/2").state == ENABLED
    assert operator.access_secret_version(name=f"{SECRET}/versions/2").payload.data == b"two"


def test_a_destroyed_version_is_gone(operator: Any, stack: Layout) -> None:
    name = operator.add_secret_version(parent=SECRET, payload={"data": b"very-secret"}).name

    destroyed = operator.destroy_secret_version(name=name)

    assert destroyed.state == DESTROYED
    assert destroyed.destroy_time >= destroyed.create_time
    assert operator.get_secret_version(name=name).state == DESTROYED
    for call in (operator.access_secret_version, operator.enable_secret_version, operator.disable_secret_version):
        with pytest.raises(exceptions.FailedPrecondition):
            call(name=name)
    assert not stack.path("secrets", "mail-key", "latest").exists()
    assert SecretStore(stack.root).version("mail-key", 1).payload is None


def test_what_is_not_there_is_not_found(operator: Any) -> None:
    with pytest.raises(exceptions.NotFound):
        operator.get_secret(name=f"{PARENT}/secrets/none")
    with pytest.raises(exceptions.NotFound):
        operator.add_secret_version(parent=f"{PARENT}/secrets/none", payload={"data": b"x"})
    for version in ("1", "latest"):
        with pytest.raises(exceptions.NotFound):
            operator.access_secret_version(name=f"{SECRET}/versions/{version}")


def test_a_secret_exists_once(operator: Any) -> None:
    with pytest.raises(exceptions.AlreadyExists):
        make(operator, "mail-key")


def test_a_wrong_checksum_is_refused(operator: Any) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        operator.add_secret_version(parent=SECRET, payload={"data": b"x", "data_crc32c": 1})
    assert list(operator.list_secret_versions(parent=SECRET)) == []
    payload = {"data": b"x", "data_crc32c": google_crc32c.value(b"x")}
    assert operator.add_secret_version(parent=SECRET, payload=payload).client_specified_payload_checksum


def test_a_payload_has_64_kib_at_most(operator: Any) -> None:
    operator.add_secret_version(parent=SECRET, payload={"data": bytes(65_536)})
    with pytest.raises(exceptions.InvalidArgument):
        operator.add_secret_version(parent=SECRET, payload={"data": bytes(65_537)})


def test_a_secret_needs_an_id_and_a_replication_policy(operator: Any) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        make(operator, "no/slash")
    with pytest.raises(exceptions.InvalidArgument):
        operator.create_secret({"parent": PARENT, "secret_id": "other", "secret": {}})


def test_a_service_reads_the_secrets_of_its_catalog_entry_only(operator: Any, client: Callable[[str], Any]) -> None:
    ids = ("mail-key", "certificate-key", "context-key-exports_jobs_fn", "context-key-auth_fn")
    for id in ids:
        if id != "mail-key":
            make(operator, id)
        operator.add_secret_version(parent=f"{PARENT}/secrets/{id}", payload={"data": id.encode()})
    service = client(service_account("exports-jobs"))

    read = {id for id in ids if _reads(service, id)}

    assert read == {"mail-key", "context-key-exports_jobs_fn"}
    assert not any(_reads(client(service_account("gateway")), id) for id in ids)


def test_a_service_changes_nothing(operator: Any, client: Callable[[str], Any]) -> None:
    service = client(service_account("auth"))
    with pytest.raises(exceptions.PermissionDenied):
        service.add_secret_version(parent=SECRET, payload={"data": b"x"})
    with pytest.raises(exceptions.PermissionDenied):
        list(service.list_secrets(parent=PARENT))


def test_another_project_is_denied(operator: Any) -> None:
    with pytest.raises(exceptions.PermissionDenied):
        operator.get_secret(name="projects/other/secrets/mail-key")


def test_a_call_needs_a_token_of_this_stack(stack: Layout, channel: Callable[[str, str], grpc.Channel]) -> None:
    trusted = grpc.ssl_channel_credentials(stack.path("tls", "ca.pem").read_bytes())
    token = Issuer(stack.path("other")).access_token(OPERATOR)
    strange = grpc.composite_channel_credentials(trusted, grpc.access_token_call_credentials(token))
    with grpc.secure_channel(f"{HOST}:{stack.ports['secrets']}", strange) as connection:
        client = Client(transport=SecretManagerServiceGrpcTransport(channel=connection))
        with pytest.raises(exceptions.Unauthenticated):
            client.get_secret(name=SECRET)


def test_an_added_version_survives_a_kill(
    layout: Layout, start: Any, channel: Callable[[str, str], grpc.Channel]
) -> None:
    SecretStore(layout.root).add("mail-key", b"seed")
    with start("local.secrets_server", layout, "secrets") as process:
        client = Client(transport=SecretManagerServiceGrpcTransport(channel=channel("secrets", OPERATOR)))
        client.add_secret_version(parent=SECRET, payload={"data": b"kept"})
        process.kill()
        process.wait()
    layout.path("secrets", "mail-key", "latest").write_bytes(b"stale")  # as if killed before the file was replaced
    with start("local.secrets_server", layout, "secrets"):
        client = Client(transport=SecretManagerServiceGrpcTransport(channel=channel("secrets", OPERATOR)))
        assert client.access_secret_version(name=f"{SECRET}/versions/1").payload.data == b"seed"
        assert client.access_secret_version(name=f"{SECRET}/versions/latest").payload.data == b"kept"
        assert layout.path("secrets", "mail-key", "latest").read_bytes() == b"kept"


def _reads(client: Any, id: str) -> bool:
    try:
        return bool(client.access_secret_version(name=f"{PARENT}/secrets/{id}/versions/1").payload.data == id.encode())
    except exceptions.PermissionDenied:
        return False
