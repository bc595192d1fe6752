"""The link in each mail that needed a consent: one POST withdraws it (RFC 8058), a GET only shows a page with a button.

Whoever follows links on a reader's behalf does so by GET. Without a log-in: the token names whose consent to what, is
made by us alone, and can do nothing but withdraw. The page needs no script.
Sources: https://www.rfc-editor.org/rfc/rfc8058, https://www.rfc-editor.org/rfc/rfc2369
"""

import base64
import hashlib
import re
from functools import cache
from html import escape
from pathlib import Path

from werkzeug.wrappers import Response

from common import errors
from common.access import PUBLIC
from common.consents import PATH, Withdrawal, read, signal
from common.http import Call, Table
from functions.consents import queries
from functions.consents.schemas import LinkToken

HTML = "text/html; charset=utf-8"
ASK = (
    "Unsubscribe?",
    "<p>You will get no more mails about <strong>{purpose}</strong>.</p>\n"
    '<form method="post"><button type="submit">Unsubscribe</button></form>',
)
DONE = (
    "You are unsubscribed",
    "<p>You will get no more mails about <strong>{purpose}</strong>. You can agree again at any time, in your"
    " account.</p>",
)
part = Table()


@part.on(
    "GET", PATH, needs=PUBLIC, query=LinkToken, body=None, answers=None, media=HTML, errors=("invalid_token",),
    mailed=True,
)  # fmt: skip
def show_page(call: Call) -> Response:
    """Show a person the button that withdraws what the link of a mail names; this alone changes nothing."""
    return _page(*ASK, _named(call).purpose)


@part.on(
    "POST", PATH, needs=PUBLIC, query=LinkToken, body=None, answers=None, media=HTML, errors=("invalid_token",),
    mailed=True,
)  # fmt: skip
def unsubscribe(call: Call) -> Response:
    """Withdraw the consent that the link of a mail names, at once and without a log-in (RFC 8058).

    A link whose consent was withdrawn already, or whose account is gone, answers the same.
    """
    withdrawal = _named(call)
    queries.unsubscribe(withdrawal, signal=signal(call.request), personal=call.personal, request_id=call.request_id)
    return _page(*DONE, withdrawal.purpose)


def _named(call: Call) -> Withdrawal:
    withdrawal = read(call.query["token"])
    if withdrawal is None:
        raise errors.unauthenticated("This link is not one of ours, or not all of it. Log in to withdraw a consent.")
    return withdrawal


def _page(title: str, body: str, purpose: str) -> Response:
    html, policy = _template()
    shown = html.replace("{title}", title).replace("{body}", body.format(purpose=escape(purpose)))
    return Response(shown, content_type=HTML, headers={"Content-Security-Policy": policy})


@cache
def _template() -> tuple[str, str]:
    """The page, and the policy that lets in its style and its form alone (CSP level 3)."""
    html = Path(__file__).with_name("unsubscribe.html").read_text(encoding="utf-8")
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return html, policy
