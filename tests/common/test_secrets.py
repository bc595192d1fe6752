"""A mounted secret: in Cloud Run's shape and in a pod's, its newest version, and a volume that cannot be read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common import secrets
from common.settings import settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("SERVICE", "DATABASE_URL", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    settings.cache_clear()
    secrets._seen.clear()
    yield tmp_path
    secrets._seen.clear()
    settings.cache_clear()


def mount(folder: Path, payload: bytes) -> Path:
    file = folder / "cursor-key" / "latest"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(payload)
    return file


def age(name: str, seconds: float) -> None:
    """As if it had been read so long ago."""
    at, payload = secrets._seen[name]
    secrets._seen[name] = (at - seconds, payload)


def test_of_cloud_run_and_of_a_pod(folder: Path) -> None:
    mount(folder, b"a folder of its own")
    (folder / "edge-key").write_bytes(b"one folder for all")
    assert secrets.read("cursor-key") == b"a folder of its own"
    assert secrets.read("edge-key") == b"one folder for all"


def test_the_newest_version_counts_once_the_cache_is_old(folder: Path) -> None:
    mount(folder, b"first")
    secrets.read("cursor-key")
    mount(folder, b"second")
    assert secrets.read("cursor-key") == b"first"
    age("cursor-key", settings().secrets_cache_seconds)
    assert secrets.read("cursor-key") == b"second"


def test_while_the_volume_gives_nothing_the_last_payload_counts_for_a_while(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = mount(folder, b"before")
    secrets.read("cursor-key")
    file.unlink()
    file.mkdir()  # a look at it fails, as it does when Secret Manager refuses
    age("cursor-key", settings().secrets_cache_seconds)
    assert secrets.read("cursor-key") == b"before"
    assert '"severity":"WARNING"' in capsys.readouterr().out.replace(" ", "")
    age("cursor-key", secrets.STALE_SECONDS)
    with pytest.raises(OSError, match="cursor-key"):
        secrets.read("cursor-key")


def test_a_first_look_that_fails_is_an_error(folder: Path) -> None:
    mount(folder, b"").unlink()
    (folder / "cursor-key" / "latest").mkdir()
    with pytest.raises(OSError, match="cursor-key"):
        secrets.read("cursor-key")
