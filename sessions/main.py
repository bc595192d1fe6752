"""The session API: long-running sessions, their events, and the streams that carry them."""

import re
from urllib.parse import urlencode, urlsplit

from werkzeug.wrappers import Response

from common import errors
from common.http import Call, Json, Routes
from common.settings import settings
from sessions import appending, queries
from sessions.outcomes import EVENT_STREAM, Appended, Ended, Opening, Place
from sessions.schemas import (
    MAX_SEQ,
    AppendedEvents,
    EventsAfter,
    NewSession,
    NewSessionEvents,
    Session,
    SessionChange,
    SessionEventPage,
    SessionFilter,
    Sessions,
    StreamStart,
)

routes = Routes("sessions")
SESSION = "/v1/sessions/<uuid:session_id>"
LAST_EVENT_ID = "Last-Event-ID"
WHOLE = re.compile(r"[0-9]{1,19}")
WEBSOCKET = "context.websocket"  # in the environment of a handshake


@routes.on("GET", "/v1/sessions", needs="session.view", query=SessionFilter, body=None, answers=Sessions)
def list_sessions(call: Call) -> Json:
    """List sessions, newest first."""
    query, status = call.query, call.query["status"]
    page = {"limit": query["limit"], "after": call.after(), "project_id": query["project_id"]}
    if status in {"active", "idle"}:
        return call.page(*queries.list_open_sessions(call.tx, status=status, **page))
    return call.page(*queries.list_sessions(call.tx, closed=status == "closed", **page))


@routes.on("POST", "/v1/sessions", needs="session.create", body=NewSession, answers=Session, status=201)
def create_session(call: Call) -> Json:
    """Open a session in a project.

    It closes by itself after half an hour (`SESSION_IDLE_SECONDS`) without an event or a change.
    """
    session = queries.insert_session(call.tx, **call.body)
    call.audit("session.created", session.id)
    call.headers["Location"] = f"/v1/sessions/{session.id}"
    return session


@routes.on("GET", SESSION, needs="session.view", body=None, answers=Session)
def get_session(call: Call) -> Json:
    """Read a session."""
    return queries.select_session(call.tx, call.path["session_id"])


@routes.on("PATCH", SESSION, needs="session.update", body=SessionChange, answers=Session, errors=("session_closed",))
def change_session(call: Call) -> Json | Response:
    """Change the title of a session, keep it awake, or close it.

    `status` `closed` closes it for good and ends its streams; closing a closed one changes nothing. `active` keeps an
    open one awake for another idle time.
    """
    session_id, closes = call.path["session_id"], call.body.get("status") == "closed"
    session = queries.update_session(call.tx, session_id, call.if_match, call.body)
    if session is None:
        if call.body == {"status": "closed"}:
            return queries.select_session(call.tx, session_id)
        raise errors.conflict("session_closed", queries.CLOSED)
    fields = sorted(set(call.body) - {"status"} if closes else call.body)
    if fields or not closes:
        call.audit("session.updated", session.id, fields=fields)
    if not closes:
        return session
    call.audit("session.closed", session.id, reason="request")
    return Ended(_place(call), "session_closed", session)


@routes.on("DELETE", SESSION, needs="session.delete", body=None, answers=None, status=204)
def delete_session(call: Call) -> Response:
    """Delete a session with its events; its streams end."""
    queries.delete_session(call.tx, call.path["session_id"], call.if_match)
    call.audit("session.deleted", call.path["session_id"])
    return Ended(_place(call), "not_found")


@routes.on(
    "POST",
    f"{SESSION}/events",
    needs=appending.NEEDS,
    body=NewSessionEvents,
    answers=AppendedEvents,
    status=201,
    errors=("session_closed",),
    appends=True,
)
def append_events(call: Call) -> Appended:
    """Append 1 to 100 events, all or none.

    They get consecutive `seq`s, whoever else appends at the same time. An event may be 64 KiB long, as compact JSON.
    """
    appended = appending.append(call.tx, call.path["session_id"], call.body["events"])
    call.appended = len(appended.events)
    call.headers["Location"] = f"{call.request.path}?{urlencode({'after': appended.first_seq - 1})}"
    return appended


@routes.on("GET", f"{SESSION}/events", needs="session.view", query=EventsAfter, body=None, answers=SessionEventPage)
def list_events(call: Call) -> Json:
    """List the events of a session behind `after`, oldest first.

    `last_seq` is that of the session's newest event; the header `Link` leads on while there are more.
    """
    limit = call.query["limit"]
    items, tip, last = queries.list_events(call.tx, call.path["session_id"], after=call.query["after"], limit=limit)
    if last is not None and last < tip:
        following = f"{settings().public_url}{call.request.path}?{urlencode({'after': last, 'limit': limit})}"
        call.headers["Link"] = f'<{following}>; rel="next"'
    return f'{{"items":{items},"last_seq":{tip}}}'


@routes.on(
    "GET",
    f"{SESSION}/stream",
    needs="session.view",
    query=StreamStart,
    body=None,
    answers=None,
    media=EVENT_STREAM,
    more=((204, None),),
)
def stream(call: Call) -> Response:
    """Follow the events of a session as server-sent events.

    Each event is a message with `id:` its seq and `data:` `{"seq", "type", "data"}`. A stream begins behind
    `Last-Event-ID`, or `after` where a client cannot set headers; without both, with what comes next. `0` means from
    the start. Every 15 seconds without an event a comment keeps the connection open.

    A stream that the server ends says `event: end` and why: `{"code", "resume_after"}`. Connect again with
    `Last-Event-ID` `resume_after` on `draining`, `slow_reader` and `unavailable`. A closed session with nothing left
    behind `Last-Event-ID` answers 204, which ends an `EventSource`.
    """
    opening = _opening(call)
    if call.request.environ.get(WEBSOCKET):
        raise errors.Problem("malformed_request", "This is a stream; a WebSocket is opened at …/ws.")
    if opening.closed and opening.after == opening.tip:
        return Response(status=204)
    return opening if call.request.method == "GET" else Response(content_type=EVENT_STREAM)


@routes.on(
    "GET",
    f"{SESSION}/ws",
    needs="session.view",
    query=StreamStart,
    body=None,
    answers=None,
    status=101,
    errors=("csrf_failed",),
)
def open_websocket(call: Call) -> Response:
    """Follow and append by WebSocket.

    The server sends one event `{"seq", "type", "data"}` a message; it begins as a stream does. A message to the server
    is `{"type", "data"}` and is appended, for which the caller needs `session.update`; it comes back like everybody's.
    A refused message is answered by `{"problem": {…}}`. The close reason is a code: `session_closed`, `not_found`,
    `draining`, `invalid_token`, `organization_suspended`, `permission_denied`, `slow_reader` or `unavailable`.

    The token comes in the header, in the cookie (then `Origin` must be ours or on the allow list), or as the
    subprotocol `bearer.<token>`, beside which `dev-context.v1` may be offered.
    """
    if call.by_cookie:
        _check_origin(call.request.headers.get("Origin", ""))
    opening = _opening(call)
    if not call.request.environ.get(WEBSOCKET):
        raise errors.Problem("malformed_request", "Open this address as a WebSocket.")
    opening.sender = appending.Sender.of(call, opening.place)
    return opening


def _opening(call: Call) -> Opening:
    """Where the caller's stream begins. Raises 404, 422."""
    name, given = _asked(call)
    state = queries.select_state(call.tx, call.path["session_id"])
    if given is not None and given > state.last_seq:
        raise errors.invalid({name: ["The session has no such event yet."]})
    return Opening(
        _place(call),
        call.caller.claim,
        after=state.last_seq if given is None else given,
        tip=state.last_seq,
        closed=state.closed,
        expires_at=call.caller.expires_at,
    )


def _asked(call: Call) -> tuple[str, int | None]:
    """Behind which event the stream is to begin, and what says so: the header, which wins, or the query. Raises 422."""
    header = call.request.headers.get(LAST_EVENT_ID)
    if not header:
        return "after", call.query["after"]
    if not WHOLE.fullmatch(header) or int(header) > MAX_SEQ:
        raise errors.invalid({LAST_EVENT_ID: ["Not the id of an event."]})
    return LAST_EVENT_ID, int(header)


def _place(call: Call) -> Place:
    return Place(call.tx.claim.tenant_id, call.path["session_id"])


def _check_origin(origin: str) -> None:
    """403 for a page of another site: a browser sends cookies along with every handshake."""
    ours = urlsplit(settings().public_url)
    known = {f"{ours.scheme}://{ours.netloc}", *(each.strip() for each in settings().cors_origins.split(","))}
    if not origin or origin not in known:
        raise errors.Problem("csrf_failed", "The Origin is neither ours nor on the allow list.")
