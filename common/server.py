"""What the image serves: functions-framework's application for the function that SERVICE names."""

from pathlib import Path
from typing import Any

import yaml
from functions_framework import create_app

from common import cache, issuers, limits, reporting, telemetry, webhooks
from common.connecting import PrivilegedLogin
from common.db import database
from common.settings import settings


def app() -> Any:
    """The WSGI application. `exports-jobs` is the entry `exports_jobs` of functions/exports.

    A database login with more rights than the service needs, or a wrong list of issuers, stops the process here.
    """
    try:
        issuers.check()
        webhooks.processors()
    except (OSError, ValueError, yaml.YAMLError) as error:
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
    # A path with a line end matches no route of the framework: the answer is the function's all the same.
    application.register_error_handler(404, lambda _error: application.view_functions["run"](path=""))
    return application
