"""What goes out: security headers on everything, problem documents for refusals, origins by an allow list."""

import json

from werkzeug.wrappers import Request, Response

from common import errors
from common.settings import settings

HEADERS = {
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains; preload",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
BY_LOWER_NAME = tuple((pair[0].lower(), pair) for pair in HEADERS.items())
UNAUTHENTICATED, COME_BACK = 401, (429, 503)
METHODS = "GET, POST, PUT, PATCH, DELETE"
EXPOSED = "ETag, Idempotent-Replayed, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
FIELDS = (
    "Authorization, Content-Type, If-Match, Idempotency-Key, Last-Event-ID, X-CSRF-Token, X-Request-Id, traceparent"
)


def problem_document(problem: errors.Problem, request_id: str) -> Response:
    """RFC 9457."""
    body = json.dumps(problem.body(request_id, settings().public_url))
    response = Response(body, problem.status, content_type="application/problem+json")
    response.headers.extend(problem.headers)
    if problem.status == UNAUTHENTICATED:
        response.headers.setdefault("WWW-Authenticate", f'Bearer error="{problem.code}"')
    if problem.status in COME_BACK:
        response.headers.setdefault("Retry-After", "1")
    return response


def finish(request: Request, response: Response, request_id: str, more: dict[str, str]) -> Response:
    """The headers that every answer carries, and `more`; CORS (Fetch standard) for the origins of CORS_ORIGINS."""
    there = {name.lower() for name, _ in response.headers}
    missing = [pair for name, pair in BY_LOWER_NAME if name not in there]
    response.headers.extend([*more.items(), *missing, ("X-Request-Id", request_id)])
    if not settings().cors_origins:
        return response
    response.headers.add("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin and origin in [known.strip() for known in settings().cors_origins.split(",")]:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = FIELDS
            response.headers["Access-Control-Max-Age"] = "600"
    return response
