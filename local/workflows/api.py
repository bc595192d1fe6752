"""The Workflow Executions REST API v1, as far as executions go: create, get, list, cancel."""

import base64
import binascii
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from sqlite3 import Row
from typing import Any

from aiohttp import web

from local import grants
from local.identity import Issuer, Refused
from local.layout import PROJECT, REGION, service_account
from local.workflows.journal import Journal
from local.workflows.library import from_json
from local.workflows.runner import Runner, revision_id

MAX_ARGUMENT = 512 * 1024
ROOT = "/v1/projects/{project}/locations/{location}/workflows/{workflow}/executions"
FIELDS = {"argument", "labels", "callLogLevel"}
LOG_LEVELS = {"CALL_LOG_LEVEL_UNSPECIFIED", "LOG_ALL_CALLS", "LOG_ERRORS_ONLY", "LOG_NONE"}
STATUS = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}
DOMAIN = f"@{PROJECT}.iam.gserviceaccount.com"
INVOKER = service_account("tasks")  # of the stack's own accounts, the one with roles/workflows.invoker

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):
    """An answer that is an error: google.rpc.Status, whose code follows from its name."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def response(self) -> web.Response:
        """The error as Google's APIs answer it."""
        code = STATUS.get(self.status, 404)
        return web.json_response({"error": {"code": code, "message": self.message, "status": self.status}}, status=code)


class Api:
    """The four methods. `deployed` maps each workflow to the revision that new executions run."""

    def __init__(self, journal: Journal, runner: Runner, issuer: Issuer, deployed: dict[str, int]) -> None:
        self.journal = journal
        self.runner = runner
        self.issuer = issuer
        self.deployed = deployed

    def application(self) -> web.Application:
        """The routes, behind the check of the caller."""
        app = web.Application(middlewares=[self._guard], client_max_size=2 * MAX_ARGUMENT)
        app.router.add_post(ROOT, self.create)
        app.router.add_get(ROOT, self.list)
        app.router.add_get(ROOT + "/{execution}", self.get)
        app.router.add_post(ROOT + "/{execution:[^:/]+}:cancel", self.cancel)
        return app

    @property
    def _guard(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                self._authorize(request)
                return await handler(request)
            except Problem as problem:
                return problem.response()

        return guard

    def _authorize(self, request: web.Request) -> None:
        try:
            email = self.issuer.verify_access_token(request.headers.get("Authorization"))
        except Refused as error:
            raise Problem("UNAUTHENTICATED", "a valid OAuth 2 access token is required") from error
        place = request.match_info
        if email in grants.known() and email != INVOKER:
            grants.refuse(email, "workflowexecutions.executions.create", request.path)
            raise Problem("PERMISSION_DENIED", "the caller may not use executions of this project")
        if not email.endswith(DOMAIN) or place.get("project", PROJECT) != PROJECT:
            raise Problem("PERMISSION_DENIED", "the caller may not use executions of this project")
        if place.get("location", REGION) != REGION or place.get("workflow", "") not in self.deployed:
            raise Problem("NOT_FOUND", "no such workflow")

    async def create(self, request: web.Request) -> web.Response:
        """Store an execution, start it, and answer it."""
        body = await _body(request)
        unknown = set(body) - FIELDS
        if unknown:
            raise Problem("INVALID_ARGUMENT", f"unknown field {min(unknown)}")
        argument = _argument(body.get("argument", "null"))
        labels = body.get("labels", {})
        if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
            raise Problem("INVALID_ARGUMENT", "labels is a map of strings")
        level = body.get("callLogLevel", "CALL_LOG_LEVEL_UNSPECIFIED")
        if level not in LOG_LEVELS:
            raise Problem("INVALID_ARGUMENT", "unknown callLogLevel")
        workflow = request.match_info["workflow"]
        execution = str(uuid.uuid4())
        revision = self.deployed[workflow]
        self.journal.create(execution, workflow, revision, argument, json.dumps(labels), level)
        self.runner.spawn(execution)
        return web.json_response(self._shown(self._row(workflow, execution), full=True))

    async def get(self, request: web.Request) -> web.Response:
        """One execution; view FULL unless BASIC is asked for."""
        row = self._row(request.match_info["workflow"], request.match_info["execution"])
        return web.json_response(self._shown(row, full=_view(request, "FULL") == "FULL"))

    async def list(self, request: web.Request) -> web.Response:
        """Executions of a workflow, newest first; view BASIC unless FULL is asked for."""
        unknown = set(request.query) - {"pageSize", "pageToken", "view", "$alt", "alt"}
        if unknown:
            raise Problem("INVALID_ARGUMENT", f"unknown parameter {min(unknown)}")
        size = request.query.get("pageSize", "0")
        if not size.isdecimal():
            raise Problem("INVALID_ARGUMENT", "pageSize is a number")
        count = min(int(size) or 100, 1000)
        full = _view(request, "BASIC") == "FULL"
        before = _position(request.query.get("pageToken", ""))
        rows = self.journal.page(request.match_info["workflow"], before, count + 1)
        answer: dict[str, Any] = {"executions": [self._shown(row, full) for row in rows[:count]]}
        if len(rows) > count:
            answer["nextPageToken"] = base64.urlsafe_b64encode(str(rows[count - 1]["position"]).encode()).decode()
        return web.json_response(answer)

    async def cancel(self, request: web.Request) -> web.Response:
        """End an active execution."""
        workflow, execution = request.match_info["workflow"], request.match_info["execution"]
        self._row(workflow, execution)
        await _body(request)
        if not await self.runner.cancel(execution):
            raise Problem("FAILED_PRECONDITION", "the execution is not active")
        return web.json_response(self._shown(self._row(workflow, execution), full=True))

    def _row(self, workflow: str, execution: str) -> Row:
        row = self.journal.execution(execution)
        if row is None or row["workflow"] != workflow:
            raise Problem("NOT_FOUND", "no such execution")
        return row

    def _shown(self, row: Row, full: bool) -> dict[str, Any]:
        revision = self.journal.revision(row["workflow"], row["revision"])
        name = f"projects/{PROJECT}/locations/{REGION}/workflows/{row['workflow']}/executions/{row['id']}"
        shown: dict[str, Any] = {
            "name": name,
            "createTime": _time(row["started"]),
            "startTime": _time(row["started"]),
            "state": row["state"],
            "workflowRevisionId": revision_id(revision),
        }
        if row["ended"] is not None:
            shown |= {"endTime": _time(row["ended"]), "duration": f"{row['ended'] - row['started']:.6f}s"}
        if not full:
            return shown
        routine, step = (row["routine"], row["step"]) if row["ended"] is not None else self.runner.place(row["id"])
        current = {"status": {"currentSteps": [{"routine": routine, "step": step}]}} if step else {}
        return shown | _details(row) | current


def _details(row: Row) -> dict[str, Any]:
    details: dict[str, Any] = {
        "argument": row["argument"],
        "labels": json.loads(row["labels"]),
        "callLogLevel": row["call_log_level"],
        "result": row["result"],
        "error": json.loads(row["error"]) if row["error"] else None,
    }
    return {key: value for key, value in details.items() if value not in (None, {})}


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        body = json.loads(raw) if raw.strip() else {}
    except ValueError as error:
        raise Problem("INVALID_ARGUMENT", "the body is not JSON") from error
    if not isinstance(body, dict):
        raise Problem("INVALID_ARGUMENT", "the body is a JSON object")
    return body


def _argument(text: Any) -> str:
    """The argument: JSON in a string, as the API wants it."""
    if not isinstance(text, str) or len(text.encode()) > MAX_ARGUMENT:
        raise Problem("INVALID_ARGUMENT", f"argument is a JSON string of at most {MAX_ARGUMENT // 1024} KB")
    try:
        from_json(text)
    except ValueError as error:
        raise Problem("INVALID_ARGUMENT", "argument is not valid JSON") from error
    return text


def _view(request: web.Request, default: str) -> str:
    view = request.query.get("view", default)
    if view not in ("BASIC", "FULL"):
        raise Problem("INVALID_ARGUMENT", "view is BASIC or FULL")
    return view


def _position(token: str) -> int:
    if not token:
        return 2**62
    try:
        return int(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error) as error:
        raise Problem("INVALID_ARGUMENT", "unknown pageToken") from error


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
