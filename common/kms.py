"""The edge to Cloud KMS: a data key is wrapped and unwrapped there, and never leaves our processes otherwise.

Checksums go both ways, as Google recommends: https://cloud.google.com/kms/docs/data-integrity-guidelines
"""

import base64
import binascii
from functools import cache
from typing import Any

from common import errors, log, tracing
from common.settings import settings

SCOPE = "https://www.googleapis.com/auth/cloudkms"
ANSWER_SECONDS = (1, 2)  # to connect, to answer
TRIES = 2
ALTERED = (400, "INVALID_ARGUMENT")  # a key version that is disabled is a 400 too, FAILED_PRECONDITION


class Unavailable(errors.Problem):
    """503: Cloud KMS gave no answer, or none that is whole, or does not let us in."""

    def __init__(self, reason: object) -> None:
        super().__init__("unavailable", headers={"Retry-After": "5"})
        log.entry("ERROR", "Cloud KMS gave no key", reason=str(reason))


class Refused(Exception):
    """The wrapped key was altered, or belongs to another place than was named."""


def wrap(plain: bytes, *bound: str) -> str:
    """The key under KMS_KEY, in base64. `bound`: the names of the place that it is for. Raises Unavailable."""
    extra = associated(bound)
    body = {
        "plaintext": _text(plain),
        "plaintextCrc32c": _checksum(plain),
        "additionalAuthenticatedData": _text(extra),
        "additionalAuthenticatedDataCrc32c": _checksum(extra),
    }

    def whole(answer: dict[str, Any]) -> bytes | None:
        wrapped = _bytes(answer.get("ciphertext"))
        verified = answer.get("verifiedPlaintextCrc32c") and answer.get("verifiedAdditionalAuthenticatedDataCrc32c")
        return wrapped if verified and answer.get("ciphertextCrc32c") == _checksum(wrapped) else None

    return _text(_asked("encrypt", body, whole))


@cache  # a handful of keys a year, for as long as the process lives; what is raised is not kept
def unwrap(wrapped: str, *bound: str) -> bytes:
    """The key that was wrapped, for the place that it was wrapped for. Raises Refused, Unavailable."""
    ciphertext, extra = _bytes(wrapped), associated(bound)
    body = {
        "ciphertext": wrapped,
        "ciphertextCrc32c": _checksum(ciphertext),
        "additionalAuthenticatedData": _text(extra),
        "additionalAuthenticatedDataCrc32c": _checksum(extra),
    }

    def whole(answer: dict[str, Any]) -> bytes | None:
        plain = _bytes(answer.get("plaintext"))
        return plain if answer.get("plaintextCrc32c") == _checksum(plain) else None

    return _asked("decrypt", body, whole)


@tracing.traced("kms")
def _asked(method: str, body: dict[str, str], whole: Any) -> bytes:
    """What `whole` finds in the answer; a second try where the first was broken off or came damaged."""
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - slow to import, only where it is used
    from requests.exceptions import RequestException  # noqa: PLC0415

    url = f"{settings().kms_endpoint}/v1/{settings().kms_key}:{method}"
    reason: object = "a checksum is wrong"
    for _ in range(TRIES):
        try:
            answer = _session().post(url, json=body, timeout=ANSWER_SECONDS)
        except (GoogleAuthError, RequestException) as error:
            reason = type(error).__name__
            continue
        if (answer.status_code, _reason(answer)) == ALTERED:
            raise Refused
        if answer.status_code != 200:
            raise Unavailable(answer.status_code)
        found: bytes | None = whole(answer.json())
        if found is not None:
            return found
    raise Unavailable(reason)


def _reason(answer: Any) -> str | None:
    """The code of Google's error; None in any other answer."""
    try:
        return str(answer.json()["error"]["status"])
    except (ValueError, KeyError, TypeError):
        return None


def associated(bound: tuple[str, ...]) -> bytes:
    """What is authenticated beside the key."""
    return "\x1f".join(bound).encode()


def _checksum(data: bytes) -> str:
    """CRC32C as a JSON int64, which is a string."""
    from google_crc32c import value as crc32c  # noqa: PLC0415

    return str(crc32c(data))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error:
        raise Refused from None


@cache
def _session() -> Any:
    import google.auth  # noqa: PLC0415
    from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415

    return AuthorizedSession(google.auth.default(scopes=[SCOPE])[0])  # type: ignore[no-untyped-call]
