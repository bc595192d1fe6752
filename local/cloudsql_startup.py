"""The first message of a PostgreSQL client, and the answer that refuses it.

Source: PostgreSQL documentation, "Message Formats": StartupMessage, CancelRequest, SSLRequest, ErrorResponse.
"""

import struct
from dataclasses import dataclass

CANCEL, SSL, GSS = 80877102, 80877103, 80877104
LONGEST = 10_000  # PostgreSQL's own limit
LONGEST_NAME = 63  # PostgreSQL cuts longer names, which would make another user of them
SUFFIX = ".gserviceaccount.com"


class Refusal(Exception):
    """The connection must end with this SQLSTATE and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def wire(self) -> bytes:
        """An ErrorResponse of severity FATAL."""
        fields = ("SFATAL", "VFATAL", f"C{self.code}", f"M{self}")
        body = b"".join(field.encode() + b"\0" for field in fields) + b"\0"
        return b"E" + struct.pack("!i", len(body) + 4) + body


@dataclass(frozen=True)
class First:
    """A complete first message: its code, its bytes, and the user of a StartupMessage."""

    code: int
    size: int
    user: str


def parse(data: bytes | bytearray) -> First | None:
    """None while more bytes are needed. Raises Refusal.

    The user must stand there exactly once: PostgreSQL would take the last of several.
    """
    if len(data) < 8:
        return None
    size, code = struct.unpack_from("!ii", data)
    if not 8 <= size <= LONGEST:
        raise Refusal("08P01", "invalid length of startup packet")
    if len(data) < size:
        return None
    if code in (CANCEL, SSL, GSS):
        return First(code, size, "")
    if code >> 16 != 3:
        raise Refusal("0A000", "unsupported frontend protocol")
    if data[size - 2 : size] != b"\0\0":
        raise Refusal("08P01", "invalid startup packet layout: expected terminator as last byte")
    words = bytes(data[8 : size - 2]).split(b"\0")
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or b"" in names or names.count(b"user") != 1:
        raise Refusal("08P01", "invalid startup packet layout: expected one user")
    return First(code, size, values[names.index(b"user")].decode(errors="replace"))


def check_user(user: str, email: str | None) -> None:
    """Raise Refusal 28000 unless the certificate's account may be this database user."""
    if email is None or user != email.removesuffix(SUFFIX) or len(user.encode()) > LONGEST_NAME:
        raise Refusal("28000", f'Cloud SQL IAM service account authentication failed for user "{user}"')
