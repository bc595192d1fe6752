"""What the image serves: the function that SERVICE names, as functions-framework loads it.

What Flask does around each request (two contexts, an address table of one line, an execution id) is left out, since no
function asks for it: docs/decisions/0035-functions-framework-is-the-contract.md.
"""

import gc
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from functions_framework import create_app
from werkzeug.wrappers import Request, Response

from common import cache, issuers, limits, reporting, telemetry, webhooks
from common.connecting import PrivilegedLogin
from common.db import database
from common.settings import settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Application: TypeAlias = "Callable[[dict[str, Any], StartResponse], Iterable[bytes]]"
WITHOUT_BODY = (204, 304)
PIECE, MOST = 64 * 1024, 32 * 1024 * 1024  # bytes; Cloud Run lets no larger body in


def app() -> Application:
    """The WSGI application. `exports-jobs` is the entry `exports_jobs` of functions/exports.

    A database login with more rights than the service needs, or a wrong list of issuers, stops the process here.
    """
    try:
        issuers.check()
        webhooks.processors()
    except (OSError, ValueError) as error:
        raise SystemExit(f"OIDC_PROVIDERS, TRUSTED_ISSUERS or PROCESSORS: {error}") from error
    try:
        limits.policies()
        cache.check()
    except ValueError as error:
        raise SystemExit(f"a RATE_ setting is not a number per time, or VALKEY_ is wrong: {error}") from error
    try:
        database().open_first()
    except PrivilegedLogin as error:
        raise SystemExit(f"the database login is refused: {error}") from error
    telemetry.start()
    reporting.start()
    service = settings().service
    folder = service.split("-")[0]
    source = Path(__file__).parent.parent / "functions" / folder / "main.py"
    application: Any = create_app(target=service.replace("-", "_"), source=str(source))  # type: ignore[no-untyped-call]
    gc.collect()
    gc.freeze()  # what was imported stays: no collection looks at it again
    return serving(inspect.unwrap(application.view_functions["run"]))


def serving(function: Callable[[Request], Response]) -> Application:
    """The function as a WSGI application. A body in one piece is a list, which the server sends at once."""

    def serve(environ: dict[str, Any], start: "StartResponse") -> Iterable[bytes]:
        response = function(Request(environ))
        _drain(environ)
        if _whole(response, environ):
            start(response.status, response.headers.to_wsgi_list())
            return [response.get_data()]
        return response(environ, start)

    return serve


def _whole(response: Response, environ: dict[str, Any]) -> bool:
    """Whether the answer goes out as it stands; in others werkzeug corrects the body or the address."""
    bodiless = response.status_code in WITHOUT_BODY or environ["REQUEST_METHOD"] == "HEAD"
    return response.is_sequence and not bodiless and "Location" not in response.headers


def _drain(environ: dict[str, Any]) -> None:
    """Read what of a body nobody wanted, as functions-framework does: else its sender may never see the answer."""
    if environ.get("CONTENT_LENGTH", "0") in {"", "0"} and "HTTP_TRANSFER_ENCODING" not in environ:
        return
    left = MOST
    while left > 0 and (piece := environ["wsgi.input"].read(PIECE)):
        left -= len(piece)
