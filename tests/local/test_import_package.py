"""A package that somebody else made: it is read as it was written, or refused; never believed, never unpacked."""

import hashlib
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.import_package import Package, Refused

TENANT = "6f0ad3cb-2a58-4a43-a0a5-2a4f3a0c2a5e"
COLUMNS = ("tenant_id", "id", "name")
ROWS = [{"tenant_id": TENANT, "id": number, "name": f"Närme {number}\u2028"} for number in range(40)]


def array(rows: list[Any]) -> bytes:
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    return b"[\n" + b",\n".join(lines) + b"\n]\n" if lines else b"[]\n"


def manifest(files: dict[str, bytes], **changed: Any) -> dict[str, Any]:
    listed = [
        {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": data.count(b"\n{")}
        for name, data in files.items()
    ]
    request = {"scope": "organization", "format": "json"}
    return {"request": request, "organizations": [{"id": TENANT}], "files": listed, **changed}


def write(path: Path, files: dict[str, bytes], listed: Any = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", json.dumps(manifest(files) if listed is None else listed))
    return path


def read(path: Path) -> list[Any]:
    with Package(path) as package:
        package.verify()
        return [json.loads(row) for relation in package.tables for row in package.rows(relation, COLUMNS)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("package")
    files = {"data/things.json": array(ROWS), "schema/things.json": b"{}\n", "data/none.json": b"[]\n"}
    return write(folder / "whole.zip", files).read_bytes()


def test_it_works(tmp_path, whole):
    (tmp_path / "p.zip").write_bytes(whole)
    assert read(tmp_path / "p.zip") == ROWS


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_seen_or_harmless(tmp_path, whole, data):
    """Some bytes changed, cut out or put in, anywhere: the same rows as before, or none."""
    start = data.draw(st.integers(0, len(whole)), "start")
    end = data.draw(st.integers(start, min(len(whole), start + 40)), "end")
    path = tmp_path / "p.zip"
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=40), "instead") + whole[end:])

    try:
        rows = read(path)
    except Refused:
        return

    assert rows == ROWS


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    json_value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_any_manifest_is_read_or_refused(tmp_path, json_value):
    with pytest.raises(Refused):
        read(write(tmp_path / "p.zip", {"data/things.json": array(ROWS)}, json_value or [0]))


LINES = {
    "no array": b'{"a": 1}\n',
    "no end": b'[\n{"tenant_id":1}\n',
    "a comma too much": array(ROWS).replace(b"}\n]", b"},\n]"),
    "a comma too few": array(ROWS).replace(b"},\n", b"}\n", 1),
    "more behind": array(ROWS) + b"[]\n",
    "more behind nothing": b"[]\n[]\n",
    "two in a line": array(ROWS).replace(b"},\n", b"},", 1),
    "no object": array([1]),
    "NaN": array(ROWS).replace(b'"id": 3,', b'"id": NaN,'),
    "half a character": array(ROWS).replace("ä".encode(), b"\xc3", 1),
    "too deep": array([{"tenant_id": TENANT, "id": 1, "name": 0}]).replace(b'"name": 0', b'"name": ' + b"[" * 100_000),
}


@pytest.mark.parametrize("what", LINES)
def test_rows_that_are_none(tmp_path, what):
    with pytest.raises(Refused, match=r"data/things\.json"):
        read(write(tmp_path / "p.zip", {"data/things.json": LINES[what]}))


@pytest.mark.parametrize(
    "name",
    ["../x.json", "/etc/passwd", "data/../../x.json", "data\\x.json", "data/x.json/", "DATA/x.json", "data/x.txt"],
)
def test_names_that_no_export_writes(tmp_path, name):
    with pytest.raises(Refused, match="which no export writes"):
        read(write(tmp_path / "p.zip", {"data/things.json": array(ROWS), name: b"[]\n"}))


def test_two_files_of_one_name(tmp_path):
    path = write(tmp_path / "p.zip", {"data/things.json": array(ROWS)})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("data/things.json", b"[]\n")
    with pytest.raises(Refused, match="the same name"):
        read(path)


def test_more_than_the_manifest_says(tmp_path):
    files = {"data/things.json": array(ROWS)}
    listed = manifest(files)
    listed["files"][0]["bytes"] -= 1
    with pytest.raises(Refused, match="longer than"):
        read(write(tmp_path / "p.zip", files, listed))


def test_more_than_deflate_can_hold(tmp_path, whole):
    """The directory of a bomb: a size that the file cannot have, or two entries over the same bytes."""
    content = bytearray(whole)
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"manifest.json"))
    content[entry + 24 : entry + 28] = struct.pack("<L", 2**31)
    (tmp_path / "p.zip").write_bytes(content)
    with pytest.raises(Refused, match="more than it can"):
        read(tmp_path / "p.zip")


def test_entries_over_the_same_bytes(tmp_path):
    files = {f"data/t{'x' * number}.json": b"[]\n" for number in range(3)} | {"data/things.json": array(ROWS * 30)}
    path = write(tmp_path / "p.zip", files)
    with zipfile.ZipFile(path, "a") as archive:
        large = archive.getinfo("data/things.json")
        for info in archive.infolist():
            if info.filename != "manifest.json":
                info.header_offset, info.compress_size = large.header_offset, large.compress_size
                info.file_size, info.CRC = large.file_size, large.CRC
        archive._didModify = True  # type: ignore[attr-defined]  # so that the directory is written anew
    with pytest.raises(Refused, match="overlap"):
        read(path)


def test_too_many_files(tmp_path):
    files = {f"data/t{'x' * number}.json": b"[]\n" for number in range(1001)}
    with pytest.raises(Refused, match="more than 1000"):
        read(write(tmp_path / "p.zip", files))


def test_an_encrypted_file(tmp_path, whole):
    content = bytearray(whole)
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    (tmp_path / "p.zip").write_bytes(content)
    with pytest.raises(Refused, match="encrypted"):
        read(tmp_path / "p.zip")
