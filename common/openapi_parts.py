"""What every operation of the public OpenAPI document shares: credentials, headers, the one error shape."""

from typing import Any

from common.errors import CODES

Json = dict[str, Any]

SECURITY_SCHEMES: dict[str, Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token."},
}
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}]

HEADER_PARAMETERS: dict[str, tuple[str, str]] = {
    "RequestId": ("X-Request-Id", "Carried into the answer and the logs; made when absent."),
    "IfMatch": ("If-Match", 'The ETag that was read, e.g. `"3"`; 412 when it is stale or weak.'),
}
ANSWER_HEADERS: dict[str, tuple[str, str]] = {
    "RequestId": ("X-Request-Id", "The id of this request in logs and errors."),
    "ETag": ("ETag", 'The version of the object, e.g. `"3"`.'),
    "Link": ("Link", 'The next page, `rel="next"`.'),
    "Location": ("Location", "Where the object, or the state of the accepted work, is read."),
    "RetryAfter": ("Retry-After", "Seconds to wait."),
    "WwwAuthenticate": ("WWW-Authenticate", "Why the credential was refused (RFC 6750)."),
}
PROBLEM_SCHEMA: Json = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "A stable URL that ends in the code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": list(CODES)},
        "request_id": {"type": "string"},
        "errors": {
            "type": "object",
            "description": "For 422: messages by field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}
