"""Routes: path → handler, and the one error boundary. A route line states everything that guards it.

Answers in this order: edge, route (404, 405), limit by address (429), authentication (401), limits of the caller (429),
CSRF, permission and step-up (403), body (413, 415, 400), validation (422), then the handler, inside one tenant
transaction.
"""

import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import marshmallow
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect, Rule, UUIDConverter
from werkzeug.wrappers import Request, Response

from common import (
    access,
    answers,
    cookies,
    denylist,
    errors,
    health,
    idempotency,
    limits,
    log,
    metrics,
    permission,
    reading,
    refusals,
    reporting,
    tracing,
)
from common.call import Call, Handler, Json, Later, Route
from common.db import Tx, Written, database
from common.tokens import Claim
from common.wire import DatabaseError, Step, refused_by_policy, violates

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
INTERNAL, BAD_REQUEST = "/internal/", 400
REFUSALS = (401, 403, 429)  # kept as long as security logs


class Id(UUIDConverter):
    """A UUID of a path as the API writes it: lower case, and still a text."""

    def to_python(self, value: str) -> str:  # type: ignore[override]
        """The text."""
        return value.lower()


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
        self._fixed: dict[tuple[str, str], Route] = {}
        self._map = Map(strict_slashes=True, merge_slashes=False, redirect_defaults=False, converters={"uuid": Id})
        Routes.tables.append(self)
        self.add(Route("GET", "/health/", access.PUBLIC, None, health.Alive, health.alive))
        self.add(
            Route("GET", "/health/ready", access.PUBLIC, None, health.Ready, health.ready, errors=("unavailable",))
        )

    def add(self, route: Route) -> None:
        """Append a route to the table and to the addresses that are known."""
        super().add(route)
        if "<" not in route.path:
            self._fixed[route.method, route.path] = route
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
        began = time.perf_counter()
        kept = tracing.begin(request.method, log.begin(ours, request.headers.get("traceparent")))
        tally = limits.Tally(request)
        code: str | None = None
        try:
            response = self._answer(request, ours, tally)
        except errors.Problem as problem:
            code = problem.code
            response = answers.problem_document(problem, shown)
        except Exception as error:  # noqa: BLE001 - the boundary
            reporting.failure(error, _route_name(request), request.environ.get("context.claim"))
            code = "internal_error"
            response = answers.problem_document(errors.Problem(code), shown)
        write = log.security if response.status_code in REFUSALS else log.entry
        route, status = _route_name(request), response.status_code
        write("INFO", "request", method=request.method, route=route, status=status, code=code)
        response = answers.finish(request, response, shown, tally.headers())
        metrics.request(route, status, time.perf_counter() - began)
        if kept:
            tracing.end(kept, route, status, code)
        return response

    def _answer(self, request: Request, ours: str, tally: limits.Tally) -> Response:
        if not request.path.startswith((INTERNAL, limits.HEALTH)):
            access.check_edge(request)
        try:
            route, path = self._match(request)
        except errors.Problem:
            tally.begin(None, access.attempt(request)[0])
            raise
        if route is None:
            tally.begin(None, None)
            return Response(status=204, headers=path)
        request.environ["context.route"] = f"{route.method} {route.path}"
        call = Call(request, route, path, ours)
        if route.needs.startswith(access.SERVICE):
            access.check_service(request, route.needs.removeprefix(access.SERVICE))
        else:
            self._admit(call, tally)
        return self._counted(call, tally)

    @staticmethod
    def _admit(call: Call, tally: limits.Tally) -> None:
        """Count the request for whoever sends it, and know the caller of a route that is not public."""
        caller, refusal = access.attempt(call.request)
        unasked = caller is not None and caller.api_key is not None and call.route.needs == access.PUBLIC
        tally.begin(call.route, None if unasked else caller)  # whether there is such a key, nobody asks here
        if refusal is not None and (call.route.needs != access.PUBLIC or refusal.status == BAD_REQUEST):
            raise refusal
        if call.route.needs != access.PUBLIC:
            call._caller = caller
            call.by_cookie = call.caller.by_cookie

    def _counted(self, call: Call, tally: limits.Tally) -> Response:
        """The answer; how it ends decides whether it counts as a failed log-in or as a request without a valid key."""
        try:
            if tally.revoked and call._caller is not None:
                call.acts_as(call.caller.claim)
                raise denylist.refusal()
            response = self._within_transaction(call)
        except errors.Problem as problem:
            tally.end(problem.status)
            refusals.record(call, problem)
            raise
        tally.end(response.status_code)
        if call.appended:
            tally.appended(call.caller.tenant_id, call.appended)
        return response

    def _match(self, request: Request) -> tuple[Route | None, dict[str, Any]]:
        """The route and its path's values; for OPTIONS no route, and the header Allow. Raises 404, 405."""
        fixed = self._fixed.get((request.method, request.path))
        if fixed is not None:
            return fixed, {}
        adapter = self._map.bind("", path_info=request.path, default_method=request.method)
        try:
            route, path = adapter.match(method=request.method)
        except MethodNotAllowed as error:
            allowed = ", ".join(sorted(error.valid_methods or []))
            if request.method == "OPTIONS":
                return None, {"Allow": f"{allowed}, OPTIONS"}
            raise errors.Problem("method_not_allowed", headers={"Allow": allowed}) from None
        except (NotFound, RequestRedirect):
            raise errors.Problem("not_found", "There is nothing at this address.") from None
        return route, {name: str(value) for name, value in path.items()}

    def _within_transaction(self, call: Call) -> Response:
        """Authorize, validate, run the handler and commit."""
        if call.route.body is not None:
            call.raw = reading.take(call.request)
        if call._caller is None:
            call.parse()
            call.validate()
            return render(call, call.route.handler(call))
        try:
            return self._sealed(call, call.caller.claim)
        except errors.Problem as problem:
            if problem.code != "organization_suspended" or not call.route.while_suspended or call.caller.api_key:
                raise
            return self._sealed(call, replace(call.caller.claim, kind="p"))

    def _sealed(self, call: Call, claim: Claim) -> Response:
        """The answer of a transaction that is sealed for the claim."""
        if call.route.single and claim.kind == "u":
            return self._read(call, claim)
        read_only = call.request.method in {"GET", "HEAD"} and not call.route.records
        scope = idempotency.scope(call)
        first = Step(idempotency.RECALL, {"scope": scope}) if scope else None
        call.acts_as(claim)
        try:
            with database().transaction(claim, read_only=read_only, first=first) as tx:
                call._tx = tx
                permission.judge(call, tx)
                idempotency.check(call)
                call.parse()
                permission.judge_scope(call, tx)
                call.validate()
                answer = self._once(call, tx, scope) if scope else call.route.handler(call)
        except DatabaseError as error:
            if violates(error, idempotency.MEMBERSHIP):
                raise errors.unauthenticated("The membership is gone.") from error
            if refused_by_policy(error):
                raise errors.Problem("permission_denied", "What you may do has just changed.") from error
            raise
        return answer if scope and isinstance(answer, Response) else render(call, answer)

    def _read(self, call: Call, claim: Claim) -> Response:
        """The answer of a single statement; who asks is judged before what she asks."""
        call.acts_as(claim)
        with database().reading(claim, partial(permission.judge, call)) as tx:
            call._tx = tx
            try:
                call.parse()
                call.validate()
                answer = call.route.handler(call)
            finally:
                tx.judged()
        return render(call, answer)

    @staticmethod
    def _once(call: Call, tx: Tx, scope: bytes) -> Response:
        """The stored answer, or the handler's, which is stored beside its change."""
        replayed = idempotency.replay(call, tx.first[0][0])
        if replayed is not None:
            tx.settles = True
            return replayed
        sealed_for = tx.claim
        response = render(call, call.route.handler(call))
        if tx.claim == sealed_for:  # a rehearsal that looks into several organizations changes nothing and is not kept
            idempotency.keep(call, tx, scope, response)
        return response


def _route_name(request: Request) -> str:
    """The template of the path: the path itself may carry ids."""
    return str(request.environ.get("context.route", "none"))


def render(call: Call, answer: Json | Response | Later | None) -> Response:
    """A handler's answer as a response; a Written object carries its version as ETag."""
    if isinstance(answer, Later):
        answer = answer.make()
    if call.route.tokens and (call.by_cookie or call.to_cookies) and isinstance(answer, dict):
        answer = cookies.deliver(call, answer)
    if isinstance(answer, Response):
        response = answer
    elif answer is None:
        response = Response(status=204)
    else:
        text = answer.json if isinstance(answer, Written) else answer if isinstance(answer, str) else json.dumps(answer)
        response = Response(text, call.route.status, content_type="application/json")
        if isinstance(answer, Written):
            response.headers["ETag"] = f'"{answer.version}"'
    if call.headers:
        response.headers.extend(call.headers)
    for cookie in call.cookies:
        response.headers.add("Set-Cookie", cookie)
    return response


__all__ = ["Call", "Json", "Later", "Route", "Routes", "Table"]
