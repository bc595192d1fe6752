"""Routes: path → handler, and the one error boundary. A route line states everything that guards it.

Answers in this order: edge, route (404, 405), authentication (401), permission (403), step-up (403), body (413, 415,
400), validation (422), then the handler, inside one tenant transaction.
"""

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import marshmallow
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.wrappers import Request, Response

from common import access, answers, errors, health, log, pagination, reading
from common.db import Tx, Written, database
from common.settings import settings

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
Json: TypeAlias = str | dict[str, Any] | Written


@dataclass(frozen=True)
class Later:
    """An answer that needs the network: made after the commit, since no network call happens inside a transaction."""

    make: Callable[[], Response]


Handler: TypeAlias = Callable[["Call"], Json | Response | Later | None]


@dataclass(frozen=True)
class Route:
    """One line of a route table."""

    method: str
    path: str
    needs: str
    body: type[marshmallow.Schema] | None
    answers: type[marshmallow.Schema] | None
    handler: Handler
    query: type[marshmallow.Schema] | None = None
    status: int = 200
    step_up: bool = False
    records: bool = False  # a GET that writes an audit event opens read-write
    errors: tuple[str, ...] = ()
    also: tuple[int, type[marshmallow.Schema]] | None = None  # a second success: its status and what it answers
    tokens: bool = False  # answers tokens: `?cookies=true` sets cookies instead
    secret: bool = False  # answers a secret that is shown once and never stored

    @property
    def idempotent(self) -> bool:
        """Whether the route takes an Idempotency-Key: an authenticated POST whose answer may be stored."""
        known = self.needs != access.PUBLIC and not self.needs.startswith(access.SERVICE)
        return self.method == "POST" and known and not (self.tokens or self.secret)

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().splitlines()[0]

    @property
    def internal(self) -> bool:
        """Whether the route is absent from the gateway."""
        return self.path.startswith("/internal/")


@dataclass
class Call:
    """A request on its way: what came in, who sent it, and the transaction it works in."""

    request: Request
    route: Route
    path: dict[str, Any]
    request_id: str
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = b""
    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    _caller: access.Caller | None = None
    _tx: Tx | None = None

    @property
    def caller(self) -> access.Caller:
        """The authenticated caller; a public route has none."""
        if self._caller is None:
            raise AssertionError("a public route has no caller")
        return self._caller

    @property
    def tx(self) -> Tx:
        """The request's transaction; public and internal routes open their own."""
        if self._tx is None:
            raise AssertionError("this route opens its own transactions")
        return self._tx

    @property
    def ip(self) -> str | None:
        """The client's address as the load balancer saw it."""
        return self.request.headers.get("X-Client-Ip")

    @property
    def user_agent(self) -> str | None:
        """The client's own name, cut to 512 characters."""
        agent = self.request.headers.get("User-Agent", "").replace("\x00", "")[:512]
        return agent.encode("utf-8", "replace").decode() or None

    @property
    def personal(self) -> dict[str, str | None]:
        """What an audit event keeps of the person's circumstances, erasable."""
        return {"ip": self.ip, "user_agent": self.user_agent}

    @property
    def if_match(self) -> int | None:
        """The version that If-Match names, None without one. Raises 412 for a weak or foreign tag."""
        given = self.request.headers.get("If-Match")
        if given is None or given.strip() == "*":
            return None
        matched = re.fullmatch(r'"(\d{1,9})"', given.strip())
        if not matched:
            raise errors.Problem("precondition_failed", 'If-Match takes one strong tag, such as "3".')
        return int(matched[1])

    def validate(self) -> None:
        """Body and query by the route's schemas. Raises 413, 415, 400, 422."""
        if self.route.query is not None:
            self.query = reading.validated(self.route.query, self.request.args.to_dict(flat=True))
        if self.route.body is not None:
            self.body = reading.validated(self.route.body, reading.parse(self.request, self.raw))

    def audit(self, action: str, resource_id: str | None = None, tx: Tx | None = None, **data: Any) -> None:
        """Record an event in the organization's chain; `project.created` concerns a project."""
        (tx or self.tx).audit(
            action,
            action.split(".")[0],
            resource_id,
            request_id=self.request_id,
            data=data,
            personal=self.personal,
        )

    def after(self) -> list[str] | None:
        """The ordering values behind which this page of a list starts."""
        filters = {name: value for name, value in self.query.items() if name not in {"cursor", "limit"}}
        return pagination.decode(self.query["cursor"], self.caller.tenant_id, self.request.path, filters)

    def page(self, items: str, last: list[str] | None) -> str:
        """A list answer: the items as JSON text and, when there are more, the cursor behind `last` and its Link."""
        if last is None:
            return f'{{"items":{items},"next_cursor":null}}'
        filters = {name: value for name, value in self.query.items() if name not in {"cursor", "limit"}}
        cursor = pagination.encode(last, self.caller.tenant_id, self.request.path, filters)
        self.headers["Link"] = pagination.next_link(settings().public_url + self.request.path, self.query, cursor)
        return f'{{"items":{items},"next_cursor":"{cursor}"}}'


class Table:
    """Route lines; a function whose table is long keeps it in parts, and its main.py includes them."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def add(self, route: Route) -> None:
        """Append a route to the table."""
        self.routes.append(route)

    def on(
        self,
        method: str,
        path: str,
        *,
        needs: str,
        body: type[marshmallow.Schema] | None,
        answers: type[marshmallow.Schema] | None,
        **options: Any,
    ) -> Callable[[Handler], Handler]:
        """Register a handler; what protects has no default."""

        def register(handler: Handler) -> Handler:
            self.add(Route(method, path, needs, body, answers, handler, **options))
            return handler

        return register


class Routes(Table):
    """The route table of one function."""

    tables: ClassVar[list["Routes"]] = []

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service
        self._map = Map(strict_slashes=True, merge_slashes=False, redirect_defaults=False)
        Routes.tables.append(self)
        self.add(Route("GET", "/health/", access.PUBLIC, None, None, health.alive))
        self.add(Route("GET", "/health/ready", access.PUBLIC, None, None, health.ready, errors=("unavailable",)))

    def add(self, route: Route) -> None:
        """Append a route to the table and to the addresses that are known."""
        super().add(route)
        self._map.add(Rule(route.path, methods=[route.method], endpoint=route))

    def include(self, table: Table) -> None:
        """Append the routes of a part."""
        for route in table.routes:
            self.add(route)

    def answer(self, request: Request) -> Response:
        """The answer to a request: the one error boundary."""
        ours = str(uuid.uuid4())
        given = request.headers.get("X-Request-Id", "")
        shown = given if REQUEST_ID.fullmatch(given) else ours
        log.begin(ours, request.headers.get("traceparent"))
        try:
            response = self._answer(request, ours)
        except errors.Problem as problem:
            response = answers.problem_document(problem, shown)
        except Exception as error:  # noqa: BLE001 - the boundary
            log.failure(error)
            response = answers.problem_document(errors.Problem("internal_error"), shown)
        log.entry("INFO", "request", method=request.method, route=_route_name(request), status=response.status_code)
        return answers.finish(request, response, shown)

    def _answer(self, request: Request, ours: str) -> Response:
        if not request.path.startswith(("/internal/", "/health/")):
            access.check_edge(request)
        route, path = self._match(request)
        if route is None:
            return Response(status=204, headers={"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"})
        request.environ["context.route"] = f"{route.method} {route.path}"
        call = Call(request, route, path, ours)
        if route.needs.startswith(access.SERVICE):
            access.check_service(request, route.needs.removeprefix(access.SERVICE))
        elif route.needs != access.PUBLIC:
            call._caller = access.authenticate(request)
        return self._within_transaction(call)

    def _match(self, request: Request) -> tuple[Route | None, dict[str, Any]]:
        adapter = self._map.bind("", path_info=request.path, default_method=request.method)
        try:
            route, path = adapter.match(method=request.method)
        except MethodNotAllowed as error:
            if request.method == "OPTIONS":
                return None, {}
            allowed = ", ".join(sorted(error.valid_methods or []))
            raise errors.Problem("method_not_allowed", headers={"Allow": allowed}) from None
        except (NotFound, RequestRedirect):
            raise errors.Problem("not_found", "There is nothing at this address.") from None
        return route, {name: str(value) for name, value in path.items()}

    def _within_transaction(self, call: Call) -> Response:
        """Authorize, validate, run the handler and commit; a recorded refusal gets a transaction of its own."""
        if call.route.body is not None:
            call.raw = reading.take(call.request)
        if call._caller is None:
            call.validate()
            return render(call, call.route.handler(call))
        read_only = call.request.method in {"GET", "HEAD"} and not call.route.records
        try:
            with database().transaction(call.caller.claim, read_only=read_only) as tx:
                call._tx = tx
                self._authorize(call, tx)
                call.validate()
                answer = call.route.handler(call)
        except errors.Problem as problem:
            if problem.code in {"permission_denied", "step_up_required", "mfa_enrollment_required"}:
                self._record_refusal(call, problem.code)
            raise
        return render(call, answer)

    @staticmethod
    def _authorize(call: Call, tx: Tx) -> None:
        caller = call.caller
        caller.user_id, caller.tenant_id = tx.claim.principal_id, tx.claim.tenant_id
        caller.role = tx.granted.get("role")
        caller.permissions = frozenset(tx.granted.get("permissions", ()))
        needed = call.route.needs
        if caller.api_key and (needed == access.SIGNED_IN or call.route.step_up):
            raise errors.Problem("permission_denied", "This is for people: an API key may not do it.")
        if needed != access.SIGNED_IN and tx.granted.get("mfa") is False:
            raise errors.Problem("mfa_enrollment_required")
        if needed != access.SIGNED_IN and needed not in caller.permissions:
            raise errors.Problem("permission_denied", f"This needs the permission {needed}.")
        if call.route.step_up and not caller.fresh:
            raise errors.Problem(
                "step_up_required",
                "Prove your identity again at POST /v1/auth/step-up.",
                headers={
                    "WWW-Authenticate": 'Bearer error="insufficient_user_authentication", '
                    f'max_age="{settings().step_up_seconds}"'
                },
            )

    @staticmethod
    def _record_refusal(call: Call, reason: str) -> None:
        with database().transaction(call.caller.claim) as tx:
            tx.audit(
                "access.denied",
                "route",
                f"{call.route.method} {call.route.path}",
                request_id=call.request_id,
                outcome="denied",
                data={"reason": reason, "needs": call.route.needs},
                personal=call.personal,
            )


def _route_name(request: Request) -> str:
    """The template of the path: the path itself may carry ids."""
    return str(request.environ.get("context.route", "none"))


def render(call: Call, answer: Json | Response | Later | None) -> Response:
    """A handler's answer as a response; a Written object carries its version as ETag."""
    if isinstance(answer, Later):
        answer = answer.make()
    if isinstance(answer, Response):
        response = answer
    elif answer is None:
        response = Response(status=204)
    else:
        text = answer.json if isinstance(answer, Written) else answer if isinstance(answer, str) else json.dumps(answer)
        response = Response(text, call.route.status, content_type="application/json")
        if isinstance(answer, Written):
            response.headers["ETag"] = f'"{answer.version}"'
    response.headers.extend(call.headers)
    return response


__all__ = ["Call", "Json", "Later", "Route", "Routes", "Table"]
