"""The items of the checklist: what each asks, and what it found. What was not looked at is not known, never passed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from tools.preflight.google import Google, Unanswered

BEFORE, AFTER = "before the deployment", "after the deployment"


class Status(Enum):
    """How an item stands."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    UNKNOWN = "NOT KNOWN"


@dataclass(frozen=True)
class Finding:
    """A status, and what was looked at or why nothing could be."""

    status: Status
    seen: str


@dataclass(frozen=True)
class Context:
    """What there is to look at; whatever is None makes its items NOT KNOWN.

    `plan`: of Terraform, as JSON. `google`: the project's APIs. `url`: origin of the API. `token`, `other`: access
    tokens of people of two organizations. `database`: a URL of a role that may read `migrations.applied`.
    `staging`: the project in which the release was tried.
    """

    root: Path
    environment: str
    catalog: dict[str, Any]
    plan: dict[str, Any] | None = None
    google: Google | None = None
    url: str = ""
    authorities: Path | None = None
    token: str = ""
    other: str = ""
    database: str = ""
    staging: str = ""

    @property
    def variables(self) -> dict[str, Any]:
        """Terraform's, by name. Raises Unanswered."""
        if self.plan is None:
            raise Unanswered("terraform is not installed here: nothing was planned")
        return {name: each.get("value") for name, each in self.plan["variables"].items()}

    def resources(self, kind: str) -> list[dict[str, Any]]:
        """The planned values of every resource of a type. Raises Unanswered."""
        if self.plan is None:
            raise Unanswered("terraform is not installed here: nothing was planned")
        planned = self.plan["planned_values"]["root_module"]["resources"]
        return [each["values"] for each in planned if each["type"] == kind and each["mode"] == "managed"]

    @property
    def project(self) -> Google:
        """The project's APIs. Raises Unanswered."""
        if self.google is None:
            raise Unanswered("no project was asked: --project")
        return self.google

    @property
    def origin(self) -> str:
        """Where the API answers. Raises Unanswered."""
        if not self.url:
            raise Unanswered("no deployment was asked: --url")
        return self.url


Look = Callable[[Context], Finding]


@dataclass(frozen=True)
class Item:
    """One line of the checklist."""

    when: str
    text: str
    look: Look

    def __call__(self, context: Context) -> Finding:
        """Look; what cannot be asked is not known, nor what is answered in a form that nobody expected."""
        try:
            return self.look(context)
        except Unanswered as reason:
            return Finding(Status.UNKNOWN, str(reason))
        except (LookupError, ValueError, TypeError, AttributeError, OSError) as error:
            return Finding(Status.UNKNOWN, f"not understood: {type(error).__name__} {error}")


@dataclass
class Checklist:
    """The items in their order."""

    items: list[Item] = field(default_factory=list)

    def item(self, when: str, text: str) -> Callable[[Look], Look]:
        """Enter a function as an item."""

        def enter(look: Look) -> Look:
            self.items.append(Item(when, text, look))
            return look

        return enter


def passed(seen: str) -> Finding:
    """It is so."""
    return Finding(Status.PASS, seen)


def judged(problems: list[str], seen: str) -> Finding:
    """It is so, unless there are problems."""
    shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
    return Finding(Status.FAIL, shown) if problems else passed(seen)


CHECKLIST = Checklist()
