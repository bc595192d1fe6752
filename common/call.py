"""What a handler is given: its route line, and the request on its way through it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import marshmallow
from werkzeug.wrappers import Request, Response

from common import access, cookies, errors, pagination, reading
from common.db import Tx, Written
from common.settings import settings
from common.tokens import Claim

NO_VERSION = -1
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
    single: bool = False  # a GET of one statement, which a person has in one round trip
    errors: tuple[str, ...] = ()
    also: tuple[int, type[marshmallow.Schema]] | None = None  # a second success: its status and what it answers
    more: tuple[tuple[int, type[marshmallow.Schema] | None], ...] = ()  # further successes, likewise
    tokens: bool = False  # answers tokens: `?cookies=true` sets cookies instead
    secret: bool = False  # answers a secret that is shown once and never stored
    own: str | None = None  # the path parameter that, naming the caller herself, stands for the permission
    by_scope: tuple[tuple[str, str], ...] = ()  # the permission that a `scope` in the body needs, with step-up
    while_suspended: bool = False  # for her own data: open to members of a suspended organization too
    mailed: bool = False  # reached by a mailed link that proves itself: counts as anonymous only when it fails
    appends: bool = False  # appends events, which have a limit of their own
    media: str | None = None  # what a success is written in, where that is not JSON

    def beyond(self, body: Any) -> str | None:
        """The permission that this body needs on top, by its `scope`."""
        scope = body.get("scope") if isinstance(body, dict) else None
        return dict(self.by_scope).get(scope) if isinstance(scope, str) else None

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
    cookies: list[str] = field(default_factory=list)  # Set-Cookie values: see common/cookies.py
    by_cookie: bool = False  # the credential came in a cookie
    to_cookies: bool = False  # new tokens leave in cookies: asked for, or as the old ones came
    raw: bytes | None = b""
    parsed: Any = None  # the body's JSON as it came
    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)
    appended: int = 0  # events, by the handler: counted when they stand
    acting: Claim | None = None  # as whom it works, once somebody is known: a refusal is hers
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
        """The version that If-Match names, None without one; no object has the version of a weak or foreign tag."""
        given = self.request.headers.get("If-Match")
        if given is None or given.strip() == "*":
            return None
        matched = re.fullmatch(r'"(\d{1,9})"', given.strip())
        return int(matched[1]) if matched else NO_VERSION

    def parse(self) -> None:
        """The body as JSON. Raises 413, 415, 400."""
        if self.route.body is None:
            reading.refuse_large(self.request)
        else:
            self.parsed = reading.parse(self.request, self.raw)

    @property
    def needed(self) -> str:
        """What the request needs: the permission of its scope, or what its route needs."""
        return self.route.beyond(self.parsed) or self.route.needs

    def validate(self) -> None:
        """Body and query by the route's schemas. Raises 422."""
        given = reading.query(self.request)
        if self.route.tokens:
            self.to_cookies = cookies.asked_for(given.pop("cookies", "false"))
        if self.route.query is not None:
            self.query = reading.validated(self.route.query, given) if given else reading.defaults(self.route.query)
        elif given and self.route.path.startswith("/v1/"):
            raise errors.invalid({name: ["Unknown field."] for name in given})
        if self.route.body is not None:
            self.body = reading.validated(self.route.body, self.parsed)

    def acts_as(self, claim: Claim) -> None:
        """Say as whom the request works: a handler of a public route does, once somebody has authenticated."""
        self.acting = claim
        self.request.environ["context.claim"] = claim  # for whoever has to tell whom a defect met

    def audit(
        self, action: str, resource_id: str | None = None, tx: Tx | None = None, outcome: str = "success", **data: Any
    ) -> None:
        """Record an event in the organization's chain; `project.created` concerns a project."""
        (tx or self.tx).audit(
            action,
            action.split(".")[0],
            resource_id,
            request_id=self.request_id,
            outcome=outcome,
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
