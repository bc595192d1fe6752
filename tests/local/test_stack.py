"""What a stack tells: the settings of each function, the addresses in stack.json, the ports of the next start."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from common import secrets
from common.settings import Settings
from local import keys, stack
from local.layout import Layout, catalog, logins, replicas
from local.ports import Occupied, choose, reserve
from local.secrets_store import SecretStore
from local.services import port_names, table


@pytest.fixture
def block() -> Iterator[range]:
    block, mark = reserve()
    with mark:
        yield block


@pytest.fixture
def layout(tmp_path: Path, block: range) -> Layout:
    return Layout(str(tmp_path), choose(port_names(), {}, {}, block), "127.0.0.1")


def test_every_function_gets_every_setting_that_has_no_default(layout: Layout) -> None:
    needed = {field.name.upper() for field in fields(Settings) if field.default is MISSING}
    for service in logins():
        given = stack.function_environment(layout, service, {})
        assert needed <= set(given)
        assert given["SERVICE"] == service
        assert given["SERVICE_URL"] == (layout.run_url(service) if service in catalog() else layout.url("gateway"))


def test_every_replica_listens_on_loopback_on_a_port_of_its_own(layout: Layout) -> None:
    given = {each.name: each for each in table(layout, {}) if each.name in replicas()}

    assert list(given) == ["sessions-1", "sessions-2"]
    for name, service in given.items():
        own = {"HOST": "127.0.0.1", "PORT": str(layout.ports[name]), "HOSTNAME": name, "DRAIN_SECONDS": "1"}
        assert own.items() <= service.environment.items()
        assert service.environment["SERVICE"] == replicas()[name]
        assert service.health == layout.url(name) + "/health/ready"
    slow = next(each for each in table(layout, {"DRAIN_SECONDS": "9", "PORT": "1"}) if each.name == "sessions-1")
    assert slow.environment["DRAIN_SECONDS"] == "9"
    assert slow.environment["PORT"] == str(layout.ports["sessions-1"])


def test_settings_of_make_run_arrive_and_what_steers_libraries_does_not(layout: Layout) -> None:
    outside = {
        "RATE_USER": "5/hour",
        "STEP_UP_SECONDS": "2",
        "DATABASE_URL": "postgresql://somewhere/else",
        "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
        "PGHOST": "db",
        "HTTPS_PROXY": "http://proxy",
    }

    given = stack.function_environment(layout, "projects", outside)

    assert (given["RATE_USER"], given["STEP_UP_SECONDS"]) == ("5/hour", "2")
    assert "somewhere" not in given["DATABASE_URL"]
    assert not {"GOOGLE_APPLICATION_CREDENTIALS", "PGHOST", "HTTPS_PROXY"} & set(given)


def test_a_function_logs_in_as_its_own_role_on_either_route(layout: Layout) -> None:
    direct = urlsplit(stack.database_url(layout, "exports-jobs", "direct"))
    connector = stack.database_url(layout, "exports-jobs", "connector")

    login = "dc-exports-jobs@dev-context-local.iam"
    assert unquote(direct.username or "") == login
    assert direct.password == stack.login_passwords(layout.path())[login]
    assert unquote(connector) == f"cloudsql://dev-context-local:europe-west1:main/context?user={login}"
    with pytest.raises(ValueError, match="DATABASE_ROUTE=odd"):
        stack.database_url(layout, "exports-jobs", "odd")


def test_a_service_sees_its_own_secrets_and_their_newest_versions(layout: Layout) -> None:
    root = layout.path()
    keys.seed(root, {})
    keys.mount(root)

    for service, entry in logins().items():
        folder = root / "mounts" / service
        mounted = {path.name: secrets.mounted(folder, path.name).read_bytes() for path in folder.iterdir()}
        assert set(mounted) == {*entry["secrets"], f"context-key-{entry['role']}", "sentry-dsn"}
    SecretStore(root).add("edge-key", b"rotated")
    assert (root / "mounts" / "projects" / "edge-key" / "latest").read_bytes() == b"rotated"
    assert (root / "mounts" / "sessions" / "edge-key").read_bytes() == b"rotated"


def test_ports_stay_while_they_are_free(layout: Layout, block: range) -> None:
    with socket.create_server(("127.0.0.1", layout.ports["tasks"])):
        again = choose(port_names(), layout.ports, {}, block)

    assert again["tasks"] != layout.ports["tasks"]
    assert {**again, "tasks": 0} == {**layout.ports, "tasks": 0}
    assert len(set(again.values())) == len(again)


def test_ports_of_the_environment_win(layout: Layout, block: range) -> None:
    wanted = str(layout.ports["valkey"])
    chosen = choose(port_names(), layout.ports, {"API_PORT": wanted}, block)

    assert chosen["gateway"] == int(wanted) != chosen["valkey"]
    with pytest.raises(Occupied, match="API_PORT=http is not a port"):
        choose(port_names(), {}, {"API_PORT": "http"}, block)
    with pytest.raises(Occupied, match="same port"):
        choose(port_names(), {}, {"API_PORT": wanted, "MAIL_PORT": wanted}, block)


def test_a_port_of_the_administrator_is_no_other_program(block: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("local.ports.is_free", lambda port: False)

    with pytest.raises(Occupied, match=r"Port 80 \(API_PORT\) is for the administrator"):
        choose(port_names(), {}, {"API_PORT": "80"}, block)
    with pytest.raises(Occupied, match="is in use by another program"):
        choose(port_names(), {}, {"API_PORT": "8080"}, block)


def test_no_two_stacks_choose_from_the_same_ports(block: range) -> None:
    """Seconds pass between choosing a port and listening on it: what one process has reserved another does not get."""
    asked = "from local.ports import reserve; print(reserve({})[0].start)"
    others = [
        subprocess.run([sys.executable, "-c", asked.format(block.start)], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]

    assert block.start not in {int(other.stdout) for other in others}
    first, mark = reserve(block.start + 5)
    assert first != block
    mark.close()
    again, mark = reserve(first.start)
    assert again == first
    mark.close()
