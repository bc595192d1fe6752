"""Billing: what comes in, what goes out."""

import re
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate

from common.schemas import Page, Schema

INVOICE_STATUS = ("open", "paid", "void")
# What follows the country's letters. Source: the VAT numbers that the European Commission's VIES knows ("What is the
# format of a VAT number?"), with Great Britain, Norway and Switzerland. Whether a number exists, only VIES can say.
VAT_NUMBERS = {
    "AT": r"U\d{8}",
    "BE": r"[01]\d{9}",
    "BG": r"\d{9,10}",
    "CY": r"\d{8}[A-Z]",
    "CZ": r"\d{8,10}",
    "DE": r"\d{9}",
    "DK": r"\d{8}",
    "EE": r"\d{9}",
    "EL": r"\d{9}",
    "ES": r"[A-Z]\d{7}[A-Z0-9]|\d{8}[A-Z]",
    "FI": r"\d{8}",
    "FR": r"[A-HJ-NP-Z0-9]{2}\d{9}",
    "HR": r"\d{11}",
    "HU": r"\d{8}",
    "IE": r"\d[A-Z0-9+*]\d{5}[A-Z]|\d{7}[A-Z]{2}",
    "IT": r"\d{11}",
    "LT": r"\d{9}|\d{12}",
    "LU": r"\d{8}",
    "LV": r"\d{11}",
    "MT": r"\d{8}",
    "NL": r"[A-Z0-9+*]{9}B[A-Z0-9+*]{2}",
    "PL": r"\d{10}",
    "PT": r"\d{9}",
    "RO": r"\d{2,10}",
    "SE": r"\d{12}",
    "SI": r"\d{8}",
    "SK": r"\d{10}",
    "XI": r"\d{9}|\d{12}|(GD|HA)\d{3}",
    "GB": r"\d{9}|\d{12}|(GD|HA)\d{3}",
    "NO": r"\d{9}(MVA)?",
    "CH": r"E\d{9}(MWST|TVA|IVA)?",
}


class VatId(fields.String):
    """A VAT identification number, kept in capitals without the spaces, dots and hyphens that people write."""

    openapi: ClassVar = {"maxLength": 32}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        number = re.sub(r"[ .-]", "", text).upper()
        form = VAT_NUMBERS.get(number[:2])
        if form is None or not re.fullmatch(form, number[2:], re.ASCII):
            raise ValidationError("Not the form of a VAT number: the country's two letters, then what it prescribes.")
        return number


class BillingChange(Schema):
    """PATCH /v1/billing. null clears a field."""

    company = fields.String(allow_none=True, validate=validate.Length(min=1, max=255))
    address = fields.String(allow_none=True, validate=validate.Length(min=1, max=1000))
    vat_id = VatId(allow_none=True)
    email = fields.Email(allow_none=True, validate=validate.Length(max=254))


class Billing(Schema):
    """Whom invoices are addressed to; null where nothing was told yet."""

    company = fields.String(required=True, allow_none=True)
    address = fields.String(required=True, allow_none=True)
    vat_id = fields.String(
        required=True, allow_none=True, metadata={"description": "As VIES writes it: `DE123456789`."}
    )
    email = fields.Email(required=True, allow_none=True, metadata={"description": "Where invoices are sent."})
    version = fields.Integer(required=True)


class InvoiceFilter(Page):
    """GET /v1/invoices."""

    status = fields.String(load_default=None, validate=validate.OneOf(INVOICE_STATUS))


class Invoice(Schema):
    """An invoice of the platform to the organization."""

    id = fields.UUID(required=True)
    number = fields.String(required=True)
    issued_at = fields.AwareDateTime(required=True)
    total = fields.Integer(
        required=True,
        metadata={"description": "In the currency's minor unit: 11900 is 119.00 EUR. Negative for a credit note."},
    )
    currency = fields.String(required=True, metadata={"description": "Three letters of ISO 4217."})
    status = fields.String(required=True, validate=validate.OneOf(INVOICE_STATUS))


class InvoicePage(Schema):
    """A page of invoices, newest first."""

    items = fields.List(fields.Nested(Invoice), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
