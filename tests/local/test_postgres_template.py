"""The cluster that throw-away stacks are copied from: theirs alone once copied, and made anew with the sources."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pg8000.native
import pytest

from local import postgres, postgres_template
from local.postgres_home import NotStarted, Owner
from tests.conftest import database
from tests.local.test_postgres import free_port


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(postgres_template, "TEMPLATES", tmp_path / "templates")
    return tmp_path / "templates"


@contextmanager
def copied(root: Path) -> Iterator[pg8000.native.Connection]:
    """A server of a copy, and its superuser."""
    root.mkdir()
    port = free_port()
    postgres.prepare(root, port, fast=True, make=postgres_template.copy)
    process = postgres.start(root, port, fast=True)
    try:
        with database(postgres.admin_dsn(root, port)) as connection:
            yield connection
    finally:
        postgres.stop(process)
        postgres.forget(root)


def test_it_works(tmp_path: Path, templates: Path) -> None:
    """Every copy has the schema; passwords, context keys and the key of the seal are no other's."""
    seals = []
    for name in ("one", "other"):
        with copied(tmp_path / name) as admin:
            newest = max(path.stem for path in (postgres_template.CHECKOUT / "migrations").glob("*.sql"))
            assert admin.run("SELECT max(name) FROM migrations.applied") == [[newest]]
            assert admin.run("SELECT count(*) FROM platform.context_keys") == [[0]]
            seals += admin.run("SELECT inner_pad, outer_pad FROM platform.seal_key")
        assert len(list(templates.glob("*/PG_VERSION"))) == 1
    (one_inner, one_outer), (other_inner, other_outer) = seals
    assert len({one_inner, one_outer, other_inner, other_outer}) == 4
    assert bytes(a ^ b for a, b in zip(one_inner, one_outer, strict=True)) == bytes([0x36 ^ 0x5C]) * 64


@pytest.mark.parametrize(
    "source", ["migrations/0001_context.sql", "functions/catalog.yaml", "common/register.yaml", "local/logins.py"]
)
def test_a_changed_source_makes_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    owner = Owner.choose()
    subprocess.run(
        ["cp", "-r", "--parents", "migrations", "functions", "common", "local", tmp_path],
        cwd=postgres_template.CHECKOUT,
        check=True,
    )
    before = postgres_template.digest(owner)
    monkeypatch.setattr(postgres_template, "CHECKOUT", tmp_path)
    assert postgres_template.digest(owner) == before

    (tmp_path / source).write_text((tmp_path / source).read_text() + "\n")

    assert postgres_template.digest(owner) != before


def test_what_a_kill_left_is_not_taken(tmp_path: Path, templates: Path) -> None:
    """A template has its name only when it is complete; an older one goes."""
    for name in ("new", "of-another-version"):
        (templates / name).mkdir(parents=True)
        (templates / name / "PG_VERSION").write_text("1")

    with copied(tmp_path / "stack") as admin:
        assert admin.run("SELECT count(*) > 30 FROM migrations.applied") == [[True]]

    assert [path.name for path in templates.glob("*/")] == [postgres_template.digest(Owner.choose())]


def test_a_copy_that_cannot_be_made_ones_own_is_no_cluster(
    tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_template, "NEW_SEAL", "UPDATE platform.no_such_table SET key = '';")

    with pytest.raises(NotStarted, match="no_such_table"), copied(tmp_path / "stack"):
        pass

    assert not postgres.data_dir(tmp_path / "stack").exists()
    postgres.forget(tmp_path / "stack")


@pytest.mark.parametrize("reason", ["no room", "somebody else's"])
def test_without_a_template_there_is_a_cluster_all_the_same(
    tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def fails(*_given: object) -> None:
        raise OSError(reason)

    monkeypatch.setattr(postgres_template, "make", fails)
    root = tmp_path / "one"
    root.mkdir()
    postgres.prepare(root, free_port(), fast=True, make=postgres_template.copy)
    try:
        assert (postgres.data_dir(root) / "PG_VERSION").exists()
    finally:
        postgres.forget(root)
