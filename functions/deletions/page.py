"""The page behind the link of a mail: asks for the state with the receipt in the fragment, and shows it to a person."""

import base64
import hashlib
from pathlib import Path

from werkzeug.wrappers import Response

FOLDER = Path(__file__).parent
STYLE = (FOLDER / "page.css").read_text(encoding="utf-8")
SCRIPT = (FOLDER / "page.js").read_text(encoding="utf-8")
HTML = (FOLDER / "page.html").read_text(encoding="utf-8").replace("{style}", STYLE).replace("{script}", SCRIPT)


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {_source(SCRIPT)}; style-src {_source(STYLE)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def response() -> Response:
    """The page."""
    return Response(HTML, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})
