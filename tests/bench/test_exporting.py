"""Exports are counted by what they hold; a peer that wants more than is there is told what."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from bench.harness.exporting import records
from bench.harness.spare import programs


def test_records_of_each_form(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("3\n")
    assert records(file, "count") == 3
    file.write_text(json.dumps({"users": [1], "events": [1, 2]}))
    assert records(file, "json") == 3
    file.write_bytes(gzip.compress(b"a\nb\n"))
    assert records(file, "gzip") == 2
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("users.jsonl", "a\n")
        archive.writestr("-", "b\nc\n")
        archive.writestr("README.txt", "not\ncounted\n")
    assert records(file, "zip") == 3


@pytest.mark.parametrize(("versions", "newest"), [(["9", "15", "18"], "15"), (["18"], None), ([], None)])
def test_the_newest_postgresql_that_has_the_extension(tmp_path: Path, versions: list[str], newest: str | None) -> None:
    for version in versions:
        (tmp_path / "lib" / version / "bin").mkdir(parents=True)
        if version != "18":
            (tmp_path / "share" / version / "extension").mkdir(parents=True)
            (tmp_path / "share" / version / "extension" / "pgcrypto.control").touch()

    found = programs("pgcrypto", tmp_path / "lib", tmp_path / "share")
    assert found == (tmp_path / "lib" / newest / "bin" if newest else None)
