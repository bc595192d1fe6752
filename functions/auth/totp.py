"""One-time passwords by time (RFC 6238) with HMAC-SHA-1, six digits, steps of 30 s: what authenticator apps do.

Ten lines of our own: a check needs the step that matched, which the libraries do not tell.
"""

import base64
import hmac
import secrets
from urllib.parse import quote, urlencode

ISSUER = "Dev Context"
SECRET_BYTES = 20  # RFC 4226, 4: 160 bits are recommended
STEP_SECONDS = 30
DIGITS = 6
DRIFT_STEPS = 1  # RFC 6238, 5.2: one step for slow networks and clocks


def new_secret() -> bytes:
    """160 random bits."""
    return secrets.token_bytes(SECRET_BYTES)


def code(secret: bytes, step: int) -> str:
    """HOTP(secret, step) (RFC 4226, 5.3), six digits."""
    return truncated(hmac.digest(secret, step.to_bytes(8, "big"), "sha1"))


def truncated(mac: bytes) -> str:
    """Six digits of a MAC by dynamic truncation (RFC 4226, 5.3)."""
    offset = mac[-1] & 15
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def matching_step(secret: bytes, given: str, now: float, last: int | None) -> int | None:
    """The step whose code was given, around `now` (Unix seconds) and later than the `last` accepted, or None.

    All steps are compared, each in constant time, so that the time tells nothing.
    """
    current = int(now) // STEP_SECONDS
    found = None
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        if hmac.compare_digest(code(secret, step).encode(), given.encode()) and (last is None or step > last):
            found = step
    return found


def base32(secret: bytes) -> str:
    """As a person types it into the app."""
    return base64.b32encode(secret).decode().rstrip("=")


def uri(secret: bytes, account: str) -> str:
    """`otpauth://totp/…`; source: https://github.com/google/google-authenticator/wiki/Key-Uri-Format"""
    label = quote(f"{ISSUER}:{account}", safe=":@")
    parameters = {
        "secret": base32(secret),
        "issuer": ISSUER,
        "algorithm": "SHA1",
        "digits": DIGITS,
        "period": STEP_SECONDS,
    }
    return f"otpauth://totp/{label}?{urlencode(parameters, quote_via=quote)}"


def qr_svg(text: str) -> str:
    """The text as a QR code: one inline `<svg>` element."""
    import segno  # noqa: PLC0415 - 35 ms, only where a factor is added

    return str(segno.make(text, error="m", micro=False).svg_inline(scale=4, title="QR code for an authenticator app"))
