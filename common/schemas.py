"""What every request and answer schema shares: unknown fields are refused, and so is what PostgreSQL cannot hold."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import marshmallow
from marshmallow import ValidationError, fields, validate


def _unstorable(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if "\x00" in value:
            yield path, "Must not contain the character NUL."
        elif any("\ud800" <= character <= "\udfff" for character in value):
            yield path, "Must not contain half of a surrogate pair."
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _unstorable(name, path or "_schema")
            yield from _unstorable(inner, path or name)
    elif isinstance(value, list):
        for inner in value:
            yield from _unstorable(inner, path)


class Schema(marshmallow.Schema):
    """A request body or query: unknown fields and unstorable text are errors."""

    class Meta:
        """Mass assignment ends here."""

        unknown = marshmallow.RAISE

    @marshmallow.pre_load
    def refuse_unstorable(self, data: Any, **_: Any) -> Any:
        """422 by field for NUL and lone surrogates, which UTF-8 in PostgreSQL cannot hold."""
        found: dict[str, list[str]] = {}
        for path, message in _unstorable(data, ""):
            found.setdefault(path, []).append(message)
        if found:
            raise ValidationError(found)
        return data


class Moment(fields.AwareDateTime):
    """RFC 3339 with an offset, kept in UTC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        moment: datetime = super()._deserialize(value, attr, data, **kwargs)
        try:
            return moment.astimezone(UTC)
        except OverflowError as error:
            raise ValidationError("Not a valid datetime.") from error


class Flag(fields.Boolean):
    """`true` or `false`, and nothing that Python counts as equal, such as 0 and 1."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Page(Schema):
    """The query of a list; filters are added by subclasses."""

    limit = fields.Integer(load_default=50, validate=validate.Range(min=1, max=100))
    cursor = fields.String(load_default=None, validate=validate.Length(max=1024))


class Empty(Schema):
    """A body that says nothing: `{}` or none at all."""
