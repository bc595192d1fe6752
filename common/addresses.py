"""E-mail addresses: one normal form, so that a person has one account however she types her address."""

import re
from typing import Any, ClassVar

from marshmallow import ValidationError, fields

MAX_LENGTH = 254  # RFC 5321, 4.5.3.1.3, less the angle brackets
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
SHAPE = re.compile(rf"[a-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@{LABEL}(?:\.{LABEL})+")
LOCAL_LENGTH = 64


def normal(text: str) -> str:
    """The address stripped and in lower case. Raises ValueError unless it is an ASCII dot-atom address (RFC 5321).

    Internationalized domains come in their `xn--` form. ASCII is checked first: lower case maps letters into ASCII.
    """
    address = text.strip()
    if not address.isascii() or len(address) > MAX_LENGTH:
        raise ValueError("not an address")
    address = address.lower()
    if not SHAPE.fullmatch(address) or address.index("@") > LOCAL_LENGTH:
        raise ValueError("not an address")
    return address


class EmailAddress(fields.String):
    """An e-mail address in its normal form."""

    openapi: ClassVar = {"format": "email", "maxLength": MAX_LENGTH}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            return normal(str(text))
        except ValueError as error:
            raise ValidationError("Not an e-mail address.") from error
