"""What tests with API keys share: make one as a person does."""

from typing import Any

from tests.conftest import Answer, Api, Person

KEYS = "/v1/api-keys"


class Key(dict[str, str]):
    """Request headers that carry an API key, and what is known of it."""

    def __init__(self, made: dict[str, Any]) -> None:
        super().__init__(Authorization=f"Bearer {made['key']}")
        self.id, self.text, self.made = str(made["id"]), str(made["key"]), made


def ask(api: Api, person: Person, *permissions: str, **more: Any) -> Answer:
    """The answer to a person who wants a key."""
    return api.post(KEYS, json={"name": "Continuous build", "permissions": list(permissions), **more}, headers=person)


def make(api: Api, person: Person, *permissions: str, **more: Any) -> Key:
    """A new key of a person."""
    answer = ask(api, person, *permissions, **more)
    assert answer.status_code == 201, answer.text
    return Key(answer.json)
