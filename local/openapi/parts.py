"""What every operation of the public OpenAPI document shares: credentials, headers, tags, the one error shape."""

from typing import Any

from common.errors import CODES

Json = dict[str, Any]
REF = "#/components/"
EVENT_STREAM = "text/event-stream"
STREAMED = (  # what a stream looks like
    'retry: 1000\n: open\n\nid: 42\ndata: {"seq":42,"type":"message.sent","data":{"text":"Hello"}}\n\n'
    'event: end\ndata: {"code":"session_closed","resume_after":42}\n\n'
)

INFO: Json = {
    "summary": "A multi-tenant backend whose tenant isolation and GDPR duties can be proven.",
    "description": (
        "Errors are problem documents (RFC 9457) with a stable `code`; `/docs/errors/{code}` explains each one. "
        "Lists are pages: follow `next_cursor`, or the header `Link`. Objects carry a `version`, answers its `ETag`, "
        "and `If-Match` keeps a change from overwriting another. A POST that carries an `Idempotency-Key` can be "
        "repeated. An id of another organization answers as one that does not exist. Every answer also carries "
        "`Strict-Transport-Security`, `Content-Security-Policy`, `X-Content-Type-Options`, `Referrer-Policy` and "
        "`Cache-Control`."
    ),
    "contact": {"name": "The operator of this installation"},
}
SERVERS: list[Json] = [
    {"url": "/", "description": "The stack that serves this document: production, or another.", "x-internal": False}
]

SECURITY_SCHEMES: dict[str, Json] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": (
            "An access token: a JWT by the rules of RFC8725 and RFC9068, one hour, `typ` `at+jwt`. "
            "A trusted outside issuer's token is taken where one is configured."
        ),
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "ctx_<prefix>_<secret>_<crc>",
        "description": "An API key of the organization, sent as a bearer credential; hashed at rest.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-access",
        "description": "The access token as `?cookies=true` sets it: HttpOnly, Secure, SameSite=Lax.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": "X-CSRF-Token",
        "description": "With the cookie, on unsafe methods: the value of the readable cookie `__Host-csrf`.",
    },
    "refreshCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-refresh",
        "description": "The refresh token as `?cookies=true` sets it.",
    },
}

WORDS = {"type": "string"}
HEADER_PARAMETERS: dict[str, tuple[str, Json, str, str]] = {  # component: name, schema, example, description
    "RequestId": (
        "X-Request-Id",
        WORDS,
        "checkout-4711",
        "1 to 64 of `A-Za-z0-9._-`: carried into the answer and the logs. One is made when it is absent or other.",
    ),
    "IfMatch": (
        "If-Match",
        WORDS,
        '"3"',
        "The ETag that was read. 412 when the object has changed since, or the tag is weak.",
    ),
    "IfNoneMatch": (
        "If-None-Match",
        WORDS,
        'W/"5f0c"',
        "The ETag of the copy; 304 if it is current.",
    ),
    "IdempotencyKey": (
        "Idempotency-Key",
        WORDS | {"minLength": 1, "maxLength": 255},
        "8e03978e-40d5-43e8-bc93-6894a57f9324",
        "The same key and body replays the stored answer, for 24 hours; another body is 422.",
    ),
    "LastEventId": (
        "Last-Event-ID",
        WORDS | {"pattern": "^[0-9]{1,19}$"},
        "41",
        "The stream begins behind this event; `0` means from the start. It wins over `after`.",
    ),
}
COOKIES_PARAMETER: Json = {
    "name": "cookies",
    "in": "query",
    "required": False,
    "description": "`true` sets the tokens as cookies instead of answering them.",
    "schema": {"type": "boolean", "default": False},
    "example": True,
}

ANSWER_HEADERS: dict[str, tuple[Json, Any, str]] = {  # name: schema, example, description
    "X-Request-Id": (WORDS, "checkout-4711", "The id of this request in logs and errors."),
    "RateLimit": (WORDS, '"user";r=987;t=1780', "What is left, and in how many seconds it is full again."),
    "RateLimit-Policy": (WORDS, '"user";q=1000;w=3600', "The policies that apply (IETF draft)."),
    "Access-Control-Allow-Origin": (
        WORDS,
        "https://app.example.com",
        "The caller's origin when it is on the allow list; absent otherwise.",
    ),
    "ETag": (WORDS, '"3"', "The version of the object."),
    "Link": (WORDS, '<https://api.example.com/v1/projects?cursor=eyJ>; rel="next"', "The next page."),
    "Location": (
        WORDS | {"format": "uri-reference"},
        "/v1/projects/5f0c1f0e-9d2a-4b7e-8c4d-0a6b3f1e2d90",
        "Where the object, or the state of the accepted work, is read.",
    ),
    "Retry-After": (
        {"type": "integer", "format": "int32", "minimum": 0, "maximum": 86_400},
        30,
        "Seconds to wait.",
    ),
    "WWW-Authenticate": (
        WORDS,
        'Bearer error="invalid_token"',
        "Why the credential was refused (RFC 6750, RFC 9470).",
    ),
    "Idempotent-Replayed": ({"type": "string", "const": "true"}, "true", "This is the stored answer."),
    "Set-Cookie": (WORDS, "__Host-csrf=4fQ1; Path=/; Secure; SameSite=Lax", "Cookies that are set or deleted."),
}
ALWAYS_SENT = frozenset({"X-Request-Id"})

PARAMETERS: dict[str, str] = {  # what a parameter means that does not say so itself; an id is that of the thing
    "limit": "How many at most.",
    "cursor": "`next_cursor` of the page before; only with the same filter.",
    "after": "Only what comes behind the event with this `seq`.",
    "status": "Only those in this state.",
    "kind": "Only those of this kind.",
    "overdue": "`true`: only what is open after its time; `false`: all the rest.",
    "q": "Only those whose name contains this.",
    "role": "Only those with this role.",
    "actor": "Only what this person did.",
    "action": "Only this kind of act.",
    "resource": "Only what was done to this.",
    "from": "Only what happened at this time or later.",
    "to": "Only what happened at this time or earlier.",
    "receipt": "The receipt that the last mail carries.",
    "code": "The code of an error.",
    "provider": "The name of a configured provider.",
    "purpose": "What the log-in at the provider, or the consent, is for.",
    "from_seq": "The `seq` of the first event.",
    "severity": "Only those of this severity.",
    "ip": "Only what was done from this address or network.",
    "token": "What the mail's link carries.",
    "cookies": "`true` sets the tokens as cookies instead of answering them.",
    "return_to": "A path of this origin to go to afterwards.",
    "state": "What the provider was given, as it gives it back.",
    "iss": "The provider's issuer (RFC 9207).",
    "error": "Why the provider refused (RFC 6749).",
}

PROBLEM_SCHEMA: Json = {
    "type": "object",
    "description": "RFC 9457. Some codes carry members of their own beside these.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "A stable URL that ends in the code."},
        "title": {"type": "string", "description": "What the code means, in a few words."},
        "status": {"type": "integer", "format": "int32", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What happened here, for a person."},
        "code": {"type": "string", "enum": list(CODES)},
        "request_id": {"type": "string"},
        "errors": {
            "type": "object",
            "description": "For 422: messages by field; the field of a list carries its index, `events.0.type`.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}

TAGS: dict[str, tuple[tuple[str, ...], str]] = {  # tag: where its paths begin, what it is about
    "Log-in": (("/v1/auth/",), "Registration, log-in, refresh, step-up, passwords, and the person herself."),
    "Second factor": (("/v1/auth/mfa/",), "Codes by app, SMS or mail, and recovery codes."),
    "Log-in by a provider": (("/v1/auth/oidc/",), "Authorization code with PKCE against an OpenID provider."),
    "Organization": (("/v1/organization",), "The caller's organization."),
    "Members": (("/v1/members", "/v1/invitations"), "Who belongs to it, as what, and who is asked to join."),
    "Roles": (("/v1/roles", "/v1/permissions"), "Built-in and custom roles."),
    "Teams": (("/v1/teams",), "Groups of members."),
    "API keys": (("/v1/api-keys",), "Credentials of programs: what they were given and their maker still may."),
    "Billing": (("/v1/billing", "/v1/invoices"), "The billing address and the invoices."),
    "Projects": (("/v1/projects",), "Projects of the organization."),
    "Tasks": (("/v1/tasks", "/v1/projects/{project_id}/tasks"), "Tasks of a project."),
    "Sessions": (("/v1/sessions",), "Long-running sessions and their events."),
    "Consents": (("/v1/consents",), "What people agreed to, provably."),
    "Exports": (("/v1/exports", "/export"), "A copy of personal data (Art. 15 and 20 GDPR)."),
    "Erasure": (("/v1/deletions", "/v1/legal-holds", "/deletion"), "Erasure with a certificate (Art. 17 GDPR)."),
    "Audit": (("/v1/audit-events",), "The hash chain of what happened in the organization."),
    "Privacy": (("/v1/privacy",), "The data-protection officer's queue, records and incidents."),
    "Pages": (("/docs", "/verify-email", "/"), "Pages for people: documentation, and what links in mails lead to."),
    "System": (("/health/", "/.well-known/", "/v1/openapi.json"), "Health, public keys and this document."),
}
