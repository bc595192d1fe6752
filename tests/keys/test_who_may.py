"""Who reads a secret and who writes one: the catalog says it, and Secret Manager keeps to it."""

import base64
import hmac
import re
import time
from pathlib import Path

import pytest
from google.api_core import exceptions

from common.settings import settings
from functions.keys import policies
from local.layout import PROJECT, logins, service_account
from tests.conftest import database

PRIVATE = "jwt-keyring"
DOCUMENT = Path(__file__).parents[2] / "docs" / "keys.md"


def path(id):
    return f"projects/{PROJECT}/secrets/{id}"


def tried(stack, service, permission, *resources):
    """These refusals are meant."""
    stack["tried"].update((service_account(service), permission, resource) for resource in resources)


def test_auth_alone_has_the_signing_ring():
    assert [name for name, entry in logins().items() if PRIVATE in entry["secrets"]] == ["auth"]


def test_one_service_writes_secrets_and_only_the_scheduler_calls_it():
    writers = {name: entry for name, entry in logins().items() if entry.get("secret_writer")}
    assert list(writers) == ["keys"]
    assert (writers["keys"]["ingress"], writers["keys"]["invokers"], writers["keys"]["paths"]) == (
        "internal",
        ["scheduler"],
        [],
    )


@pytest.mark.parametrize("service", [name for name in logins() if name != "keys"])
def test_other_services_change_no_secret_and_list_no_versions(stack, client, service):
    manager = client(service)
    tried(stack, service, "secretmanager.secrets.*", path("cursor-key"), path("cursor-key") + "/versions/1")
    tried(stack, service, "secretmanager.versions.access", path(PRIVATE) + "/versions/latest")
    for call in (
        lambda: manager.add_secret_version(parent=path("cursor-key"), payload={"data": b"x"}),
        lambda: manager.disable_secret_version(name=path("cursor-key") + "/versions/1"),
        lambda: manager.destroy_secret_version(name=path("cursor-key") + "/versions/1"),
        lambda: list(manager.list_secret_versions(parent=path("cursor-key"))),
    ):
        with pytest.raises(exceptions.PermissionDenied):
            call()
    if service != "auth":
        with pytest.raises(exceptions.PermissionDenied):
            manager.access_secret_version(name=path(PRIVATE) + "/versions/latest")


def test_the_rotation_makes_no_secrets(stack, client):
    manager = client("keys")
    tried(stack, "keys", "secretmanager.secrets.*", f"projects/{PROJECT}")
    secret = {"replication": {"automatic": {}}}
    with pytest.raises(exceptions.PermissionDenied):
        manager.create_secret({"parent": f"projects/{PROJECT}", "secret_id": "new", "secret": secret})
    with pytest.raises(exceptions.PermissionDenied):
        list(manager.list_secrets(parent=f"projects/{PROJECT}"))
    assert list(manager.list_secret_versions(parent=path("cursor-key")))


def test_the_private_ring_is_mounted_by_auth_alone(safe):
    mounts = safe.layout.path("mounts")
    assert [each.parent.name for each in mounts.glob(f"*/{PRIVATE}")] == ["auth"]
    assert {each.name for each in (mounts / "keys").iterdir()} == {"context-key-keys_fn", "sentry-dsn"}


def test_every_secret_is_decided_upon():
    """A new secret in the catalog needs a policy, or a reason to have none; and the operators' page names it."""
    page = DOCUMENT.read_text()
    for id in policies.secret_ids():
        assert policies.policy(id) is not None or id in policies.not_rotated()
        assert f"`{re.sub('^context-key-.*', 'context-key-<role>', id)}`" in page


@pytest.fixture(autouse=True)
def settings_of_keys(monkeypatch):
    """Policies read settings."""
    for name in ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "unused")
    settings.cache_clear()
    yield
    settings.cache_clear()


def attempts(connection, statements):
    """What each statement raised, by SQLSTATE; `done` for one that went through."""
    found = []
    for statement in statements:
        try:
            connection.run(statement)
            found.append("done")
        except Exception as error:  # noqa: BLE001 - whatever the driver raises is looked at
            found.append(error.args[0]["C"])
    return found


FORGERIES = [
    "SELECT platform.add_context_key(ARRAY(SELECT kid FROM platform.context_keys), 'forged00', '\\x00')",
    "SELECT platform.add_context_key(ARRAY['{kid}'], 'forged00', decode(repeat('00', 32), 'hex'))",
    "SELECT platform.retire_context_key('{kid}', ARRAY['{kid}'])",
    "SELECT platform.context_kids(ARRAY['{kid}'])",
    "SELECT platform.context_login(ARRAY['{kid}'])",
    "SELECT platform.begin_key_run(gen_random_uuid(), 100000)",
    "SELECT platform.put_context_key('forged00', session_user, ARRAY['u'], true, decode(repeat('00', 32), 'hex'))",
    "SELECT * FROM platform.key_run",
]


@pytest.mark.parametrize("role", sorted({entry["role"] for entry in logins().values()}))
def test_no_role_brings_keys_of_its_own(stack, safe, role):
    """For others these functions do not exist; for the rotation's role they are nothing without a system's seal."""
    kid = safe.ring("context-key-auth_fn")["active"]
    with database(stack["postgres"][role]) as connection:
        found = attempts(connection, [statement.format(kid=kid) for statement in FORGERIES])
    assert set(found) == {"42501"}, found


def test_what_the_rotation_may_not_do_either(stack, safe, admin):
    """Under its own seal: no key for two logins at once, none in another's place, none short, not the last one away."""
    auth, projects = (safe.ring(f"context-key-{role}")["active"] for role in ("auth_fn", "projects_fn"))
    key = "decode(repeat('00', 32), 'hex')"
    with database(stack["postgres"]["keys_fn"]) as connection:
        pid = connection.run("SELECT pg_backend_pid()")[0][0]
        token = sealed(safe, pid)
        found = []
        for statement in (
            f"SELECT platform.add_context_key(ARRAY['{auth}', '{projects}'], 'forged00', {key})",
            f"SELECT platform.add_context_key(ARRAY['unknown'], 'forged00', {key})",
            f"SELECT platform.add_context_key(ARRAY['{projects}'], '{auth}', {key})",
            f"SELECT platform.add_context_key(ARRAY['{projects}'], 'forged.0', {key})",
            f"SELECT platform.add_context_key(ARRAY['{projects}'], 'forged00', '\\x00')",
            f"SELECT platform.retire_context_key('{auth}', ARRAY['{auth}'])",
            f"SELECT platform.retire_context_key('{auth}', ARRAY[]::text[])",
        ):
            connection.run("BEGIN")
            connection.run("SELECT app.authorize(:token)", token=token)
            found += attempts(connection, [statement])
            connection.run("ROLLBACK")
        connection.run("BEGIN")
        connection.run("SELECT app.authorize(:token)", token=token)
        connection.run(f"SELECT platform.retire_context_key('{auth}', ARRAY['{projects}'])")
        connection.run("COMMIT")
    assert found == ["42501", "42501", "23505", "22023", "22023", "42501", "42501"]
    assert admin.run("SELECT count(*) FROM platform.context_keys WHERE kid = :kid", kid=auth) == [[1]]


def sealed(safe, pid):
    """A context token as the keys service makes it."""
    ring = safe.ring("context-key-keys_fn")
    key = base64.urlsafe_b64decode(ring["keys"][ring["active"]]["key"] + "=")
    body = f"v1.{ring['active']}.s....{pid}.{int(time.time()) + 4}"
    return f"{body}.{hmac.digest(key, body.encode(), 'sha256').hex()}"
