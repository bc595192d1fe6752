"""The first versions of a fresh project's secrets: the job `first-keys` against Secret Manager and Cloud KMS."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from common import kms
from functions.keys import first, policies
from functions.keys.rings import Ring
from functions.keys.vault import Version
from local import keys, stack, tls
from local.kms import Keeper
from local.layout import Layout, catalog
from local.secrets_store import SecretStore

RINGS = {"jwt-keyring", "refresh-key", "mail-key", "cursor-key", "mfa-key", "phone-key", "context-key-auth_fn"}
ELSEWHERE = {"sms-account", "sms-token", "oidc-client-secret"}


@pytest.fixture
def project(layout: Layout, start: Any) -> Iterator[SecretStore]:
    """A project as Terraform leaves it: every secret, and no version."""
    tls.ensure(layout.root)
    store = SecretStore(layout.root)
    for id in {*policies.secret_ids(), *policies.first_texts()}:
        store.create(id)
    with ExitStack() as running:
        running.enter_context(start("local.secrets_server", layout, "secrets"))
        running.enter_context(start("local.kms", layout, "kms"))
        running.enter_context(start("local.metadata", layout, "metadata:keys"))
        yield store


def command(layout: Layout, **given: str) -> subprocess.Popen[str]:
    environment = stack.function_environment(layout, "keys", os.environ | {"JWT_ALGORITHM": "RS256"} | given)
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-m", "functions.keys.first"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ring(store: SecretStore, id: str) -> Ring:
    found: Ring = json.loads(store.latest(id) or b"")
    return found


def test_it_works(layout: Layout, project: SecretStore) -> None:
    """Two at once, and once more: every secret of ours has its keys, and nobody has shown one."""
    together = [command(layout), command(layout)]
    outputs = [each.communicate(timeout=60) for each in together]
    assert [each.returncode for each in together] == [0, 0], outputs

    made = {id: project.latest(id) for id in project.ids()}
    assert {id for id, payload in made.items() if payload is None} == ELSEWHERE
    signing = ring(project, "jwt-keyring")
    assert {each["algorithm"] for each in signing["keys"].values()} == {"RS256"}
    verifying = ring(project, "jwt-verify-keyring")
    assert signing["active"] in verifying["keys"]
    assert "PRIVATE" not in json.dumps(verifying)
    for id in policies.WRAPPED:
        assert {name for entry in ring(project, id)["keys"].values() for name in entry} == {"algorithm", "wrapped"}
    shown = "".join(text for pair in outputs for text in pair)
    for payload in filter(None, made.values()):
        for secret in _secrets(payload):
            assert secret not in shown

    again = command(layout)
    answer, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "made" not in answer
    assert {id: project.latest(id) for id in project.ids()} == made


def _secrets(payload: bytes) -> list[str]:
    if not payload.startswith(b"{"):
        return [payload.decode()]
    entries = json.loads(payload)["keys"].values()
    return [text for entry in entries for name, text in entry.items() if name in ("key", "wrapped", "private_pem")]


def test_a_secret_that_terraform_has_not_made_stops_it(layout: Layout, project: SecretStore) -> None:
    """And what was made before stays; the next run goes on."""
    project.connection.execute("DELETE FROM secrets WHERE id = 'mail-key'")

    process = command(layout)
    _, complaint = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "NotFound" in complaint
    project.create("mail-key")
    command(layout).communicate(timeout=60)
    assert project.latest("mail-key")


class Raced(keys.Shelf):
    """While the first look at a secret is taken, another run makes it."""

    def __init__(self, store: SecretStore, other: Callable[[str], None]) -> None:
        super().__init__(store)
        self._other = other
        self._seen: set[str] = set()

    def versions(self, id: str) -> list[Version]:
        before = super().versions(id)
        if id not in self._seen and not before:
            self._seen.add(id)
            self._other(id)
        return before


def test_who_comes_second_puts_the_first_ring_in_front(tmp_path: Path) -> None:
    store, keeper = SecretStore(tmp_path), Keeper(tmp_path)

    def wrap(plain: bytes, *bound: str) -> str:
        return base64.b64encode(keeper.encrypt(plain, kms.associated(bound))).decode()

    def other(id: str) -> None:
        if not done:
            done.update(first.make(keys.Shelf(store), "RS256", wrap))
            before.update({each: store.latest(each) for each in store.ids()})

    done: dict[str, bool] = {}
    before: dict[str, bytes | None] = {}
    mine = dict(first.make(Raced(store, other), "RS256", wrap))

    # The other run came in between the look at the first secret and its making: that one has both, the rest is theirs.
    raced = next(iter(mine))
    assert [id for id, made in mine.items() if made] == [raced]
    theirs = json.loads(before[raced] or b"")
    joined = ring(store, raced)
    assert joined["active"] == theirs["active"]
    assert joined["keys"].items() > theirs["keys"].items()
    assert len(joined["keys"]) == 2
    assert {id: store.latest(id) for id in before if id != raced} == {id: before[id] for id in before if id != raced}


def test_the_second_edge_key_gives_way(tmp_path: Path) -> None:
    store = SecretStore(tmp_path)

    def other(id: str) -> None:
        if id == "edge-key":
            store.add(id, b"first")

    dict(first.make(Raced(store, other), "HS256", lambda plain, *bound: "wrapped"))

    assert store.latest("edge-key") == b"first"
    assert len(store.versions("edge-key")) == 3


def test_the_catalog_decides_what_is_made() -> None:
    used = {id for entry in catalog().values() for id in entry["secrets"]}
    assert RINGS - {"context-key-auth_fn"} <= used
    assert not policies.written() & ELSEWHERE
    assert policies.written() >= RINGS | {"edge-key", "jwt-verify-keyring"}
