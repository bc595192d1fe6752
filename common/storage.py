"""The edge to Cloud Storage: streamed uploads that overwrite nothing, streamed reads, deletion, signed URLs.

An object is written under a name that is used once, with the precondition "no such object": so the client may retry,
and two writers can never mix. Source: https://cloud.google.com/storage/docs/request-preconditions
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from common import tracing
from common.settings import settings

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket

CHUNK = 4 * 1024 * 1024  # what an upload or a read holds in memory; a multiple of 256 KiB
BLOCK = 256 * 1024  # what is hashed and handed on at once
NETWORK_SECONDS = 60
PATIENCE_SECONDS = 10.0  # for the small objects of ledger and anchors, new tries included: whoever waits may try again
SIGN_SECONDS = 5
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class Sink:
    """Bytes on their way into an object, in blocks; `size` and `sha256` are right once the upload has ended."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        """Take the next bytes, however few."""
        self._waiting += data
        if len(self._waiting) >= BLOCK:
            self.pass_on()
        return len(data)

    def pass_on(self) -> None:
        """Hash what has come together and hand it to the upload."""
        self._digest.update(self._waiting)
        self.size += len(self._waiting)
        self._target.write(bytes(self._waiting))
        self._waiting.clear()

    def flush(self) -> None:
        """Nothing: an upload is flushed by its end."""

    @property
    def sha256(self) -> str:
        """The hash of what has passed, in hex."""
        return self._digest.hexdigest()


@contextmanager
def uploading(name: str, content_type: str) -> Iterator[Sink]:
    """Stream a new object; it exists once the block ends well, and not at all when it raises."""
    writer = _blob(name).open(
        "wb",
        chunk_size=CHUNK,
        content_type=content_type,
        if_generation_match=0,
        ignore_flush=True,
        timeout=NETWORK_SECONDS,
        checksum="crc32c",
    )
    with tracing.span("storage upload"), writer:
        sink = Sink(writer)
        yield sink
        sink.pass_on()


def blocks(name: str) -> Iterator[bytes]:
    """An object's bytes, a chunk at a time. Raises google.api_core.exceptions.NotFound."""
    with _blob(name).open("rb", chunk_size=CHUNK, timeout=NETWORK_SECONDS) as reader:
        while block := reader.read(CHUNK):
            yield block


@tracing.traced("storage delete")
def delete(name: str) -> None:
    """Delete an object; one that is gone is fine."""
    from google.api_core.exceptions import NotFound  # noqa: PLC0415 - slow to import, only where it is used

    try:
        _blob(name).delete(timeout=NETWORK_SECONDS)
    except NotFound:
        return


def delete_all(prefix: str) -> int:
    """Delete every object whose name starts so; their number."""
    found = names(prefix)
    for name in found:
        delete(name)
    return len(found)


@tracing.traced("storage list")
def names(prefix: str) -> list[str]:
    """The names of all objects that start so."""
    return [blob.name for blob in _bucket(settings().export_bucket).list_blobs(prefix=prefix, timeout=NETWORK_SECONDS)]


@tracing.traced("storage create")
def keep(name: str, content: bytes, bucket: str | None = None) -> bool:
    """Write a new object of the ledger, or another bucket; False when there is one of that name, which stays."""
    from google.api_core.exceptions import Forbidden, PreconditionFailed  # noqa: PLC0415 - slow to import, only where it is used

    blob = _bucket(bucket or settings().ledger_bucket).blob(name)
    try:
        blob.upload_from_string(
            content, content_type="application/json", if_generation_match=0, checksum="crc32c", **_patience()
        )
    except PreconditionFailed:  # also when an answer was lost, and the client has tried again
        return False
    except Forbidden:  # who may create and not delete is told so of a name that is taken, whatever the precondition
        if blob.exists(**_patience()):
            return False
        raise
    return True


@tracing.traced("storage read")
def kept(name: str, bucket: str | None = None) -> bytes:
    """An object of the ledger, or another bucket. Raises google.api_core.exceptions.NotFound."""
    blob = _bucket(bucket or settings().ledger_bucket).blob(name)
    content: bytes = blob.download_as_bytes(**_patience())
    return content


@tracing.traced("storage list")
def kept_names(prefix: str, bucket: str | None = None) -> list[str]:
    """The names of the ledger's objects that start so, or another bucket's, in order; nothing else is transferred."""
    found = _bucket(bucket or settings().ledger_bucket).list_blobs(
        prefix=prefix, fields="items(name),nextPageToken", **_patience()
    )
    return [blob.name for blob in found]


def _patience() -> dict[str, Any]:
    from google.cloud.storage.retry import DEFAULT_RETRY  # noqa: PLC0415 - slow to import, only where it is used

    return {"timeout": PATIENCE_SECONDS, "retry": DEFAULT_RETRY.with_timeout(PATIENCE_SECONDS)}


@tracing.traced("storage sign")
def signed_url(name: str, filename: str, content_type: str) -> str:
    """A V4 signed URL to download an object, good for SIGNED_URL_SECONDS, signed by IAM as the service's own account.

    Source: https://cloud.google.com/storage/docs/access-control/signed-urls
    """
    url: str = _blob(name).generate_signed_url(
        version="v4",
        expiration=timedelta(seconds=settings().signed_url_seconds),
        method="GET",
        credentials=_signing_credentials(),
        api_access_endpoint=settings().storage_endpoint,
        response_disposition=f'attachment; filename="{filename}"',
        response_type=content_type,
    )
    return url


def _blob(name: str) -> "Blob":
    return _bucket(settings().export_bucket).blob(name)


@cache
def _bucket(name: str) -> "Bucket":
    from google.cloud import storage  # noqa: PLC0415 - slow to import, only where it is used

    client = storage.Client(project=settings().project_id, client_options={"api_endpoint": settings().storage_endpoint})
    # Else it asks for the bucket itself once, for traces that nobody takes: a right that no service has.
    client._bucket_metadata_cache = None
    return client.bucket(name)


@cache
def _signing_credentials() -> Any:
    """Credentials that sign with projects.serviceAccounts.signBlob: no key file anywhere.

    google.auth.iam.Signer does the same, but knows the public endpoint only.
    """
    import google.auth  # noqa: PLC0415
    from google.auth.credentials import Signing  # noqa: PLC0415
    from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415

    session = AuthorizedSession(google.auth.default(scopes=[SCOPE])[0])  # type: ignore[no-untyped-call]

    class ServiceAccount(Signing):
        """The service's own account."""

        signer_email = settings().service_account
        signer = None

        def sign_bytes(self, message: bytes) -> bytes:
            """The RSA-SHA256 signature of the message."""
            url = f"{settings().iamcredentials_endpoint}/v1/projects/-/serviceAccounts/{self.signer_email}:signBlob"
            answer = session.post(url, json={"payload": base64.b64encode(message).decode()}, timeout=SIGN_SECONDS)
            answer.raise_for_status()
            return base64.b64decode(answer.json()["signedBlob"])

    return ServiceAccount()
