"""Write the public OpenAPI document, generated from the route tables: `python -m local.openapi`."""

import json
from pathlib import Path

from common.openapi import public
from local.gateway import tables
from sessions.main import routes as sessions

TARGET = Path(__file__).parent.parent / "functions" / "auth" / "openapi.json"


def document() -> str:
    """The document as it stands in the file that the auth function serves."""
    return json.dumps(public([*tables(), sessions]), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Replace the file."""
    TARGET.write_text(document())


if __name__ == "__main__":
    main()
