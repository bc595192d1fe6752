"""What follows the functions in a release: the session API, then the gateway, then a look at the front door."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Served(NamedTuple):
    """What serves `now`, and what is noted as having served `before`. Empty: nothing."""

    now: str
    before: str


NOTHING = Served("", "")


class Part(Protocol):
    """Whatever a release moves behind the functions. Before it moves any traffic it notes what serves, so that the way
    back of one that was killed leads to that and no further, whether it had come to this part or not.
    """

    def serving(self) -> Served:
        """How it stands. Raises Failed."""

    def note(self, before: str) -> None:
        """What `back` leads to from here on. Raises Failed."""

    def publish(self, image: str, addresses: Mapping[str, str]) -> None:
        """Bring it to this release; `addresses`: of each service, by its name. Raises Failed."""

    def restore(self, before: str) -> None:
        """Bring it back to what served. Raises Failed."""

    def back(self) -> None:
        """Bring it back to what is noted. Raises Failed."""
