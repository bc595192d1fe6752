"""The storage stand-in, as Google's own client sees it."""

import base64
import io
import os
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core.exceptions import Conflict, NotFound, PreconditionFailed
from google.cloud import storage
from google.oauth2.credentials import Credentials

from local.identity import Issuer
from local.layout import PROJECT, Layout, service_account

MEBIBYTE = 1 << 20
GRANULE = 256 * 1024
EXPORTS, LEDGER, ANCHORS = f"{PROJECT}-exports", f"{PROJECT}-ledger", f"{PROJECT}-anchors"
RESUME = "/upload/storage/v1/b/{}/o?uploadType=resumable&name={}"


@pytest.fixture
def server(layout: Layout, start: Any) -> Iterator[Any]:
    with start("local.storage", layout, "storage") as process:
        yield process


@pytest.fixture
def token(layout: Layout) -> dict[str, str]:
    return {"Authorization": "Bearer " + Issuer(layout.root).access_token(service_account("tester"))}


@pytest.fixture
def client(layout: Layout, token: dict[str, str]) -> storage.Client:
    credentials = Credentials(token["Authorization"].removeprefix("Bearer "))
    options = {"api_endpoint": layout.url("storage")}
    return storage.Client(project=PROJECT, credentials=credentials, client_options=options)


@pytest.fixture
def bucket(server: Any, client: storage.Client) -> storage.Bucket:
    return client.bucket(EXPORTS)


def files(layout: Layout, name: str = EXPORTS) -> list[Path]:
    return sorted(layout.path("storage", name).iterdir())


def session(layout: Layout, token: dict[str, str], name: str = "a.bin", **headers: str) -> str:
    answer = requests.post(layout.url("storage") + RESUME.format(EXPORTS, name), headers=token | headers, timeout=5)
    assert answer.status_code == 200
    return answer.headers["Location"]


def put(url: str, data: bytes, content_range: str) -> requests.Response:
    return requests.put(url, data=data, headers={"Content-Range": content_range}, timeout=5)


def test_the_bucket_of_exports_deletes_after_a_week_and_keeps_nothing(client: storage.Client, server: Any) -> None:
    bucket = client.get_bucket(EXPORTS)

    assert [rule["condition"] for rule in bucket.lifecycle_rules] == [{"age": 7}]
    assert bucket.soft_delete_policy.retention_duration_seconds == 0


def test_buckets(client: storage.Client, server: Any) -> None:
    client.create_bucket("another-bucket", location="europe-west1")

    assert [bucket.name for bucket in client.list_buckets()] == ["another-bucket", ANCHORS, EXPORTS, LEDGER]
    with pytest.raises(Conflict):
        client.create_bucket("another-bucket")
    with pytest.raises(NotFound):
        client.get_bucket("no-such-bucket")


def test_upload_and_download(bucket: storage.Bucket, layout: Layout) -> None:
    blob = bucket.blob("päth/with space+&?#.txt")
    blob.metadata = {"request": "17"}
    blob.upload_from_string(b"hello", content_type="text/plain", if_generation_match=0)

    found = bucket.get_blob(blob.name)
    assert found.download_as_bytes() == b"hello"
    assert (found.size, found.content_type, found.metadata) == (5, "text/plain", {"request": "17"})
    assert (found.md5_hash, found.crc32c) == ("XUFAKrxLKna5cZ2REBfFkg==", "mnG7TA==")
    assert found.download_as_bytes(start=1, end=3) == b"ell"
    assert found.metageneration == 1
    assert [path.read_bytes() for path in files(layout)] == [b"hello"]


def test_an_empty_object(bucket: storage.Bucket) -> None:
    bucket.blob("empty").upload_from_string(b"")
    bucket.blob("empty-too", chunk_size=GRANULE).upload_from_file(io.BytesIO(b""))

    assert bucket.blob("empty").download_as_bytes() == b""
    assert bucket.get_blob("empty-too").size == 0


def test_simple_upload(bucket: storage.Bucket, layout: Layout, token: dict[str, str]) -> None:
    url = f"{layout.url('storage')}/upload/storage/v1/b/{EXPORTS}/o?uploadType=media&name=simple"
    answer = requests.post(url, data=b"123", headers=token | {"Content-Type": "text/csv"}, timeout=5)

    assert (answer.status_code, answer.json()["contentType"], answer.json()["size"]) == (200, "text/csv", "3")


def test_chunked_resumable_upload(bucket: storage.Bucket) -> None:
    data = os.urandom(5 * GRANULE + 17)
    blob = bucket.blob("chunked", chunk_size=2 * GRANULE)
    blob.upload_from_file(io.BytesIO(data), checksum="md5")

    assert bucket.blob("chunked").download_as_bytes() == data


def test_upload_of_unknown_size_as_a_stream(bucket: storage.Bucket) -> None:
    data = os.urandom(3 * GRANULE + 5)
    with bucket.blob("stream").open("wb", chunk_size=GRANULE, if_generation_match=0) as stream:
        stream.write(data)

    assert bucket.blob("stream").download_as_bytes() == data


def test_resumable_protocol_step_by_step(bucket: storage.Bucket, layout: Layout, token: dict[str, str]) -> None:
    url = session(layout, token)
    data = os.urandom(GRANULE * 2 + 10)

    asked = put(url, b"", "bytes */*")
    assert (asked.status_code, asked.headers.get("Range")) == (308, None)
    odd = put(url, data[: GRANULE + 100], f"bytes 0-{GRANULE + 99}/*")
    assert (odd.status_code, odd.headers["Range"]) == (308, f"bytes=0-{GRANULE - 1}")
    gap = put(url, data[-10:], f"bytes {GRANULE * 2}-{GRANULE * 2 + 9}/{len(data)}")
    assert gap.status_code == 503
    again = put(url, data[: GRANULE * 2], f"bytes 0-{GRANULE * 2 - 1}/*")
    assert again.headers["Range"] == f"bytes=0-{GRANULE * 2 - 1}"
    assert bucket.get_blob("a.bin") is None
    done = put(url, data[-10:], f"bytes {GRANULE * 2}-{GRANULE * 2 + 9}/{len(data)}")
    assert (done.status_code, done.json()["size"]) == (200, str(len(data)))
    assert put(url, b"", f"bytes */{len(data)}").json() == done.json()
    assert bucket.blob("a.bin").download_as_bytes() == data


def test_a_cancelled_session_leaves_nothing(bucket: storage.Bucket, layout: Layout, token: dict[str, str]) -> None:
    url = session(layout, token)
    put(url, b"x" * GRANULE, f"bytes 0-{GRANULE - 1}/*")

    assert requests.delete(url, timeout=5).status_code == 499
    assert put(url, b"", "bytes */*").status_code == 499
    assert files(layout, ".uploads") == []


def test_wrong_hash_is_refused(bucket: storage.Bucket, layout: Layout, token: dict[str, str]) -> None:
    url = session(layout, token)
    headers = {"x-goog-hash": "md5=" + "A" * 22 + "=="}
    answer = requests.put(url, data=b"data", headers=headers, timeout=5)

    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (400, "invalid")
    assert bucket.get_blob("a.bin") is None
    assert files(layout, ".uploads") == []


def test_preconditions(bucket: storage.Bucket) -> None:
    blob = bucket.blob("once")
    blob.upload_from_string(b"1", if_generation_match=0)
    first = blob.generation
    with pytest.raises(PreconditionFailed):
        bucket.blob("once").upload_from_string(b"2", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("once", chunk_size=GRANULE).upload_from_file(io.BytesIO(b"2"), if_generation_match=first + 1)
    bucket.blob("once").upload_from_string(b"3", if_generation_match=first)
    with pytest.raises(PreconditionFailed):
        bucket.blob("once").delete(if_generation_match=first)
    with pytest.raises(PreconditionFailed):
        bucket.blob("once").download_as_bytes(if_generation_match=first)
    with pytest.raises(PreconditionFailed):
        bucket.blob("once").delete(if_metageneration_match=2)

    assert bucket.blob("once").download_as_bytes() == b"3"


def test_the_loser_of_two_resumable_uploads_is_told_at_the_end(
    bucket: storage.Bucket, layout: Layout, token: dict[str, str]
) -> None:
    urls = [session(layout, token, "race&ifGenerationMatch=0") for _ in range(2)]
    answers = [requests.put(url, data=b"x", timeout=5).status_code for url in urls]

    assert answers == [200, 412]


def test_one_of_many_wins(bucket: storage.Bucket, layout: Layout, token: dict[str, str]) -> None:
    url = f"{layout.url('storage')}/upload/storage/v1/b/{EXPORTS}/o?uploadType=media&name=race&ifGenerationMatch=0"

    def upload(number: int) -> int:
        return requests.post(url, data=b"%d" % number * 1000, headers=token, timeout=30).status_code

    with ThreadPoolExecutor(20) as pool:
        codes = sorted(pool.map(upload, range(40)))
    assert codes == [200] + [412] * 39
    assert len(files(layout)) == 1


def test_a_refusal_reaches_a_client_that_is_still_sending(bucket: storage.Bucket) -> None:
    bucket.blob("taken").upload_from_string(b"1")
    with pytest.raises(PreconditionFailed):
        bucket.blob("taken").upload_from_string(b"2" * 8 * MEBIBYTE, if_generation_match=0)


def test_listing(bucket: storage.Bucket, client: storage.Client) -> None:
    names = ["a/1", "a/2", "a/b/3", "b", "c/4", "d", "é"]
    for name in names:
        bucket.blob(name).upload_from_string(name)

    assert [blob.name for blob in client.list_blobs(EXPORTS)] == names
    assert [blob.name for blob in client.list_blobs(EXPORTS, prefix="a/", page_size=1)] == ["a/1", "a/2", "a/b/3"]
    listed = client.list_blobs(EXPORTS, delimiter="/", page_size=2)
    pages = [[blob.name for blob in page] for page in listed.pages]
    assert pages == [["b"], ["d"], ["é"]]
    assert listed.prefixes == {"a/", "c/"}
    inner = client.list_blobs(EXPORTS, prefix="a/", delimiter="/")
    assert [blob.name for blob in inner] == ["a/1", "a/2"]
    assert inner.prefixes == {"a/b/"}
    assert [blob.name for blob in client.list_blobs(EXPORTS, start_offset="b", end_offset="d")] == ["b", "c/4"]


def test_deletion_removes_the_bytes(bucket: storage.Bucket, layout: Layout) -> None:
    bucket.blob("gone").upload_from_string(b"secret")
    bucket.blob("gone").delete()

    assert files(layout) == []
    with pytest.raises(NotFound, match="No such object"):
        bucket.blob("gone").delete()


def test_a_new_generation_replaces_the_bytes(bucket: storage.Bucket, layout: Layout) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string(b"old")
    old = blob.generation
    blob.upload_from_string(b"new")

    assert [path.read_bytes() for path in files(layout)] == [b"new"]
    with pytest.raises(NotFound):
        bucket.blob("x", generation=old).download_as_bytes()


def test_compose(bucket: storage.Bucket) -> None:
    parts = [bucket.blob(f"part-{number}") for number in range(3)]
    for number, part in enumerate(parts):
        part.upload_from_string(str(number) * 3)
    whole = bucket.blob("whole")
    whole.content_type = "text/plain"
    whole.compose(parts, if_generation_match=0)

    assert bucket.blob("whole").download_as_bytes() == b"000111222"
    found = bucket.get_blob("whole")
    assert (found.component_count, found.md5_hash, found.content_type) == (3, None, "text/plain")
    with pytest.raises(PreconditionFailed):
        whole.compose(parts, if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("other").compose(parts, if_source_generation_match=[1, None, None])


def test_rewrite_and_copy(bucket: storage.Bucket) -> None:
    source = bucket.blob("source")
    source.upload_from_string(b"data", content_type="text/plain")
    target = bucket.blob("target")
    token, rewritten, total = target.rewrite(source)
    copied = bucket.copy_blob(source, bucket, "copy")
    source.delete()

    assert (token, rewritten, total) == (None, 4, 4)
    assert target.download_as_bytes() == copied.download_as_bytes() == b"data"
    assert bucket.get_blob("target").content_type == "text/plain"


def test_patching_metadata(bucket: storage.Bucket) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string(b"1")
    blob.metadata = {"a": "1", "b": "2"}
    blob.content_disposition = "attachment"
    blob.patch()
    blob.metadata = {"a": None, "b": "3"}
    blob.patch(if_metageneration_match=2)

    found = bucket.get_blob("x")
    assert (found.metadata, found.content_disposition, found.metageneration) == ({"b": "3"}, "attachment", 3)
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=2)


def test_ranges(bucket: storage.Bucket, layout: Layout, token: dict[str, str]) -> None:
    bucket.blob("ten").upload_from_string(b"0123456789")
    url = f"{layout.url('storage')}/download/storage/v1/b/{EXPORTS}/o/ten?alt=media"

    def read(value: str) -> tuple[int, str, str | None]:
        answer = requests.get(url, headers=token | {"Range": value}, timeout=5)
        return answer.status_code, answer.text[:10], answer.headers.get("Content-Range")

    assert read("bytes=0-0") == (206, "0", "bytes 0-0/10")
    assert read("bytes=8-99") == (206, "89", "bytes 8-9/10")
    assert read("bytes=-3") == (206, "789", "bytes 7-9/10")
    assert read("bytes=10-")[0] == 416
    assert read("lines=1-2") == (200, "0123456789", None)


def test_a_token_is_needed(server: Any, layout: Layout) -> None:
    url = f"{layout.url('storage')}/storage/v1/b/{EXPORTS}"
    anonymous = requests.get(url, timeout=5)
    forged = requests.get(url, headers={"Authorization": "Bearer ya29.forged"}, timeout=5)

    assert (anonymous.status_code, anonymous.json()["error"]["errors"][0]["reason"]) == (401, "required")
    assert (forged.status_code, forged.json()["error"]["errors"][0]["reason"]) == (401, "authError")


def test_what_was_acknowledged_survives_a_kill(layout: Layout, start: Any, token: dict[str, str]) -> None:
    data = os.urandom(GRANULE * 3)
    with start("local.storage", layout, "storage") as process:
        url = session(layout, token)
        put(url, data[: GRANULE * 2], f"bytes 0-{GRANULE * 2 - 1}/*")
        whole = layout.url("storage") + f"/upload/storage/v1/b/{EXPORTS}/o?uploadType=media&name=whole"
        assert requests.post(whole, data=b"whole", headers=token, timeout=5).ok

        def broken() -> Iterator[bytes]:
            yield b"y" * MEBIBYTE
            process.send_signal(signal.SIGKILL)
            process.wait()
            yield b"z" * MEBIBYTE

        half = layout.url("storage") + f"/upload/storage/v1/b/{EXPORTS}/o?uploadType=media&name=half"
        with pytest.raises(requests.ConnectionError):
            requests.post(half, data=broken(), headers=token, timeout=5)
    orphan = layout.path("storage", EXPORTS, "17-orphan")
    orphan.write_bytes(b"as if killed between link and commit")
    with start("local.storage", layout, "storage"):
        assert put(url, b"", "bytes */*").headers["Range"] == f"bytes=0-{GRANULE * 2 - 1}"
        done = put(url, data[GRANULE * 2 :], f"bytes {GRANULE * 2}-{GRANULE * 3 - 1}/{GRANULE * 3}").json()
        listed = requests.get(f"{layout.url('storage')}/storage/v1/b/{EXPORTS}/o", headers=token, timeout=5).json()

    assert [item["name"] for item in listed["items"]] == ["a.bin", "whole"]
    assert [path.read_bytes() for path in files(layout)] == [b"whole", data]
    assert done["size"] == str(len(data))
    assert files(layout, ".uploads") == []


def test_old_objects_expire_at_the_next_sweep(
    layout: Layout, start: Any, token: dict[str, str], eventually: Any
) -> None:
    url = layout.url("storage") + f"/upload/storage/v1/b/{EXPORTS}/o?uploadType=media&name="
    with start("local.storage", layout, "storage"):
        for name in ("old", "fresh"):
            requests.post(url + name, data=name.encode(), headers=token, timeout=5)
    database = sqlite3.connect(layout.path("storage", ".metadata", "objects.db"))
    with database:
        database.execute("UPDATE objects SET created = '2020-01-01T00:00:00.000000Z' WHERE name = 'old'")
    database.close()
    with start("local.storage", layout, "storage"):
        eventually(lambda: len(files(layout)) == 1)

    assert files(layout)[0].read_bytes() == b"fresh"


class Zeros(io.RawIOBase):
    """A long stream that is never in memory."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = min(size if size >= 0 else self.left, self.left)
        self.left -= taken
        return bytes(taken)


def test_memory_stays_bounded_with_a_large_object(
    bucket: storage.Bucket, layout: Layout, server: Any, token: dict[str, str]
) -> None:
    size = 1024 * MEBIBYTE
    url = session(layout, token, "large")
    zeros = Zeros(size)
    answer = requests.put(url, data=iter(lambda: zeros.read(MEBIBYTE), b""), timeout=120)
    media = f"{layout.url('storage')}/storage/v1/b/{EXPORTS}/o/large?alt=media"
    with requests.get(media, headers=token, stream=True, timeout=60) as download:
        received = sum(len(piece) for piece in download.iter_content(MEBIBYTE))
    bucket.blob("large").delete()

    assert answer.json()["size"] == str(size)
    expected = "cd573cfaace07e7949bc0c46028904ff"  # pragma: allowlist secret
    assert base64.b64decode(answer.json()["md5Hash"]).hex() == expected
    assert received == size
    peak = next(line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 150 * 1024
