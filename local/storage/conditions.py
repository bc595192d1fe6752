"""Preconditions on generation and metageneration, the storage API's optimistic locks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from local.storage.problems import condition_not_met, invalid, not_modified

FIELDS = {
    "GenerationMatch": "generation",
    "GenerationNotMatch": "not_generation",
    "MetagenerationMatch": "metageneration",
    "MetagenerationNotMatch": "not_metageneration",
}


class Versioned(Protocol):
    """What a precondition compares with."""

    @property
    def generation(self) -> int: ...

    @property
    def metageneration(self) -> int: ...


@dataclass(frozen=True)
class Conditions:
    """Numbers to equal or to differ from; None is no condition; generation 0 stands for "does not exist"."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, values: Mapping[str, str], prefix: str = "if") -> "Conditions":
        """Read `ifGenerationMatch` and its kin (prefix `ifSource`: those of a copy's source). Raises Problem 400."""
        found = {field: values.get(prefix + key) for key, field in FIELDS.items()}
        return cls(**{field: _number(value) for field, value in found.items() if value is not None})

    @classmethod
    def of_headers(cls, headers: Mapping[str, str]) -> "Conditions":
        """Read `x-goog-if-generation-match` and `x-goog-if-metageneration-match`, the XML API's two."""
        keys = {"generation": "x-goog-if-generation-match", "metageneration": "x-goog-if-metageneration-match"}
        return cls(**{field: _number(headers[key]) for field, key in keys.items() if key in headers})

    def stored(self) -> dict[str, int | None]:
        """As JSON for a resumable session."""
        return asdict(self)

    def check_write(self, found: Versioned | None) -> None:
        """Raise Problem 412 unless every condition holds for what stands there now."""
        if not (self._same(found) and self._differs(found)):
            raise condition_not_met()

    def check_read(self, found: Versioned) -> None:
        """Raise Problem 412, or 304 when only a negative condition fails."""
        if not self._same(found):
            raise condition_not_met()
        if not self._differs(found):
            raise not_modified()

    def check_metageneration(self, found: int) -> None:
        """Raise Problem 412 unless the conditions on a bucket's metageneration hold."""
        if self.metageneration not in (None, found) or self.not_metageneration == found:
            raise condition_not_met()

    def _same(self, found: Versioned | None) -> bool:
        generation = found.generation if found else 0
        metageneration = found.metageneration if found else 0
        return self.generation in (None, generation) and self.metageneration in (None, metageneration)

    def _differs(self, found: Versioned | None) -> bool:
        generation = found.generation if found else 0
        metageneration = found.metageneration if found else 0
        return self.not_generation != generation and self.not_metageneration != metageneration


def _number(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise invalid(f"Invalid value for a precondition: {value!r}")
    return int(value)
