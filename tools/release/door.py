"""The front door: what whoever is outside sees of a release, by load balancer, Cloud Armor and gateway."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import requests

from tools.release.api import ANSWER_SECONDS, Failed
from tools.release.parts import NOTHING, Served

TRIES = 12  # a gateway serves its new document a little later everywhere


@dataclass(frozen=True)
class Door:
    """The API's public origin, asked without a token. `pause`: seconds between two tries."""

    url: str
    say: Callable[[str], object]
    pause: float = 5.0

    def serving(self) -> Served:
        """Nothing that could be restored."""
        return NOTHING

    def note(self, before: str) -> None:
        """Nothing is moved."""

    def publish(self, image: str, addresses: Mapping[str, str]) -> None:
        """Whether it is well, three times in a row. Raises Failed, and the release goes back."""
        well, seen = 0, ""
        for _ in range(TRIES):
            seen = self._ask()
            well = well + 1 if seen == "200" else 0
            if well == 3:
                self.say(f"door: {self.url} is well")
                return
            time.sleep(self.pause)
        raise Failed(f"door: {self.url}/health/ready answers {seen}")

    def restore(self, before: str) -> None:
        """Nothing was moved."""

    def back(self) -> None:
        """Nothing was moved."""

    def _ask(self) -> str:
        try:
            answer = requests.get(f"{self.url}/health/ready", timeout=ANSWER_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            return type(error).__name__
        return str(answer.status_code)
