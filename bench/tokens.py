"""The key that a stack signs its access tokens with."""

import base64
import json
from pathlib import Path
from typing import Any


def signing_key(stack: dict[str, Any]) -> tuple[str, bytes]:
    """The active key's id and the key."""
    ring = json.loads(Path(stack["jwt_keyring"]).read_text())
    return ring["active"], base64.urlsafe_b64decode(ring["keys"][ring["active"]]["key"] + "==")
