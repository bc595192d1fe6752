"""Write the OpenAPI documents, generated from the route tables: `python -m local.openapi`."""

import json
import sys
from pathlib import Path

from local.entries import problems
from local.gateway import tables, template_document
from local.openapi.public import public
from sessions.main import routes as sessions

ROOT = Path(__file__).parent.parent.parent
TARGET = ROOT / "functions" / "auth" / "openapi.json"
GATEWAY = ROOT / "terraform" / "gateway.json.tftpl"


def document() -> str:
    """The document as it stands in the file that the auth function serves."""
    return json.dumps(public([*tables(), sessions]), indent=1, ensure_ascii=False) + "\n"


def gateway_document() -> str:
    """The gateway's document as Terraform reads it: an address is `${name}` of the service."""
    return json.dumps(template_document(), indent=1) + "\n"


def main() -> None:
    """Replace the files. A catalog that is wrong is told first."""
    if found := problems():
        sys.exit("\n".join(found))
    TARGET.write_text(document())
    GATEWAY.write_text(gateway_document())
