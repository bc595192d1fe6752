"""Signed URLs: made by Google's client with the service account's own key, verified by the storage stand-in."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import requests
from google.auth.credentials import Signing
from google.cloud import storage
from google.cloud.storage._signing import generate_signed_url_v4
from google.oauth2.credentials import Credentials

from local.identity import Issuer
from local.layout import PROJECT, Layout, service_account

BUCKET = f"{PROJECT}-exports"
NAME = "exports/für Alice (1)+~*.zip"
SIGNER = service_account("exports-jobs")


class ServiceAccount(Credentials, Signing):
    """Signatures made by signBlob, as google-auth makes them on Cloud Run; and a token that may do anything."""

    def __init__(self, issuer: Issuer) -> None:
        super().__init__(issuer.access_token(service_account("tester")))
        self.issuer = issuer

    signer_email = SIGNER

    @property
    def signer(self) -> None:
        return None

    def sign_bytes(self, message: bytes) -> bytes:
        return self.issuer.sign_blob(SIGNER, message)[1]


@pytest.fixture
def credentials(layout: Layout) -> ServiceAccount:
    return ServiceAccount(Issuer(layout.root))


@pytest.fixture
def blob(layout: Layout, start: Any, credentials: ServiceAccount) -> Iterator[storage.Blob]:
    with start("local.storage", layout, "storage"):
        options = {"api_endpoint": layout.url("storage")}
        client = storage.Client(project=PROJECT, credentials=credentials, client_options=options)
        blob = client.bucket(BUCKET).blob(NAME)
        blob.upload_from_string(b"0123456789", content_type="application/zip")
        yield blob


def sign(layout: Layout, credentials: ServiceAccount, **chosen: Any) -> str:
    """A URL whose fields the client itself would not produce."""
    values = {"expiration": 60, "api_access_endpoint": layout.url("storage"), "method": "GET"} | chosen
    resource = f"/{BUCKET}/{quote(NAME, safe='/~')}"
    return str(generate_signed_url_v4(credentials, resource=resource, **values))


def code(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"].startswith("application/xml")
    return answer.status_code, re.findall("<Code>(.*)</Code>", answer.text)[0]


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=5)


def test_download(blob: storage.Blob, layout: Layout) -> None:
    url = blob.generate_signed_url(
        version="v4",
        expiration=timedelta(hours=1),
        api_access_endpoint=layout.url("storage"),
        response_disposition='attachment; filename="export.zip"',
        response_type="application/x-zip",
    )
    answer = get(url)

    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="export.zip"'
    assert answer.headers["Content-Type"] == "application/x-zip"
    part = get(url, Range="bytes=2-4")
    assert (part.status_code, part.content) == (206, b"234")


def test_head_needs_its_own_signature(blob: storage.Blob, layout: Layout, credentials: ServiceAccount) -> None:
    answer = requests.head(sign(layout, credentials, method="HEAD"), timeout=5)

    assert (answer.status_code, answer.headers["Content-Length"]) == (200, "10")
    assert requests.head(sign(layout, credentials), timeout=5).status_code == 403


def test_upload(blob: storage.Blob, layout: Layout) -> None:
    headers = {"x-goog-if-generation-match": str(blob.generation), "x-goog-meta-origin": "browser"}
    url = blob.generate_signed_url(
        version="v4",
        expiration=60,
        method="PUT",
        content_type="text/plain",
        headers=headers.copy(),
        api_access_endpoint=layout.url("storage"),
    )
    sent = headers | {"Content-Type": "text/plain"}

    assert code(requests.put(url, data=b"new", headers=sent | {"Content-Type": "text/html"}, timeout=5))[0] == 403
    assert requests.put(url, data=b"new", headers=sent, timeout=5).status_code == 200
    assert code(requests.put(url, data=b"new", headers=sent, timeout=5)) == (412, "PreconditionFailed")
    found = blob.bucket.get_blob(NAME)
    assert found.download_as_bytes() == b"new"
    assert (found.content_type, found.metadata) == ("text/plain", {"origin": "browser"})


def test_changed_urls_are_refused(blob: storage.Blob, layout: Layout, credentials: ServiceAccount) -> None:
    url = sign(layout, credentials)
    signature = url.rpartition("=")[2]
    flipped = url.removesuffix(signature) + f"{int(signature[0], 16) ^ 1:x}" + signature[1:]
    longer = url.replace("X-Goog-Expires=60", "X-Goog-Expires=61")
    other_object = url.replace("exports/f", "exports/g")
    other_signer = url.replace("dc-exports-jobs%40", "dc-projects%40")
    more = url.replace("X-Goog-Algorithm", "response-content-type=text%2Fhtml&X-Goog-Algorithm")

    assert get(url).status_code == 200
    for changed in (flipped, longer, other_object, other_signer, more, url.replace(signature, "zz")):
        assert changed != url
        assert code(get(changed)) == (403, "SignatureDoesNotMatch")
    assert code(requests.put(url, data=b"x", timeout=5)) == (403, "SignatureDoesNotMatch")
    assert code(get(url.partition("&X-Goog-Signature")[0])) == (400, "InvalidArgument")
    assert code(get(url, **{"x-goog-user-project": "p"})) == (403, "AccessDenied")


def test_another_host_breaks_the_signature(blob: storage.Blob, layout: Layout, credentials: ServiceAccount) -> None:
    assert code(get(sign(layout, credentials), Host="storage.googleapis.com")) == (403, "SignatureDoesNotMatch")


def test_expired(blob: storage.Blob, layout: Layout, credentials: ServiceAccount) -> None:
    then = (datetime.now(UTC) - timedelta(seconds=61)).strftime("%Y%m%dT%H%M%SZ")
    answer = get(sign(layout, credentials, _request_timestamp=then))

    assert code(answer) == (400, "ExpiredToken")
    assert "Request signature expired at: " in answer.text


def test_times_that_no_signature_may_have(blob: storage.Blob, layout: Layout, credentials: ServiceAccount) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y%m%dT%H%M%SZ")
    url = sign(layout, credentials)

    assert code(get(sign(layout, credentials, _request_timestamp=later))) == (403, "AccessDenied")
    assert code(get(url.replace("Expires=60", "Expires=604801"))) == (400, "InvalidArgument")
    assert code(get(url.replace("Expires=60", "Expires=0"))) == (400, "InvalidArgument")
    assert code(get(url.replace("%2Fauto%2Fstorage", "%2Fauto%2Fs3"))) == (400, "InvalidArgument")


def test_a_week_is_the_longest(blob: storage.Blob, layout: Layout, credentials: ServiceAccount) -> None:
    assert get(sign(layout, credentials, expiration=604_800)).status_code == 200


def test_without_signature_or_token(blob: storage.Blob, layout: Layout) -> None:
    assert code(get(f"{layout.url('storage')}/{BUCKET}/{quote(NAME)}")) == (403, "AccessDenied")


def test_a_deleted_object(blob: storage.Blob, layout: Layout, credentials: ServiceAccount) -> None:
    url = sign(layout, credentials)
    blob.delete()

    assert code(get(url)) == (404, "NoSuchKey")
