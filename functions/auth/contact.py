"""GET /.well-known/security.txt: where a weakness is reported (RFC 9116), as the operator has set it.

Who serves this text still reads what it names: it is made on each request, and says so for thirty days.
"""

from datetime import UTC, datetime, time, timedelta

from werkzeug.wrappers import Response

from common import errors
from common.access import PUBLIC
from common.http import Call, Table
from common.settings import settings

PATH = "/.well-known/security.txt"
PLAIN = "text/plain; charset=utf-8"  # RFC 9116, 3
GOOD_FOR = timedelta(days=30)  # less than a year, RFC 9116, 2.5.5

part = Table()


@part.on("GET", PATH, needs=PUBLIC, body=None, answers=None, media=PLAIN, errors=("not_found",))
def security_txt(call: Call) -> Response:
    """Say where a weakness is reported, and by which rules; 404 where the operator has set no address."""
    text = written(datetime.now(UTC))
    if text is None:
        raise errors.not_found()
    return Response(text, content_type=PLAIN, headers={"Cache-Control": "public, max-age=86400"})


def written(now: datetime) -> str | None:
    """The text as of a moment; None where SECURITY_CONTACT is empty."""
    contacts = [given.strip() for given in settings().security_contact.split(",") if given.strip()]
    if not contacts:
        return None
    ends = datetime.combine((now + GOOD_FOR).date(), time(), UTC)
    lines = [f"Contact: {_address(given)}" for given in contacts]
    lines += [f"Expires: {ends:%Y-%m-%dT%H:%M:%SZ}", f"Canonical: {settings().public_url}{PATH}"]
    if settings().disclosure_policy:
        lines.append(f"Policy: {settings().disclosure_policy}")
    return "\n".join([*lines, "Preferred-Languages: en", ""])


def _address(given: str) -> str:
    """A URI, as RFC 9116, 2.5.3, wants it: an e-mail address gets its scheme."""
    return given if ":" in given else f"mailto:{given}"
