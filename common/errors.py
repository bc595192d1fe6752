"""The closed list of errors, as problem details (RFC 9457); docs/errors.md describes each code."""

from typing import Final

# code: (status, title)
CODES: Final[dict[str, tuple[int, str]]] = {
    "malformed_request": (400, "The request cannot be read"),
    "oidc_state_invalid": (400, "This log-in was not begun here, is over, or is too old"),
    "invalid_cursor": (400, "The cursor is not one of this list"),
    "invalid_token": (401, "The credential is missing, expired or revoked"),
    "invalid_credentials": (401, "E-mail or password is wrong"),
    "invalid_code": (401, "The code is wrong, expired or spent"),
    "oidc_invalid": (401, "The provider's answer does not prove who it is"),
    "signature_invalid": (401, "The signature does not prove who sent this"),
    "password_required": (401, "The password is needed as well"),
    "login_required": (401, "The person who is meant has to be logged in"),
    "refresh_token_reused": (401, "The refresh token was used before; its family is revoked"),
    "forbidden": (403, "This caller may not use this address"),
    "csrf_failed": (403, "The X-CSRF-Token is missing or wrong"),
    "permission_denied": (403, "A permission is missing"),
    "step_up_required": (403, "A fresh proof of identity is needed"),
    "mfa_enrollment_required": (403, "The organization requires a log-in with a second factor"),
    "oidc_denied": (403, "The provider did not let the person in"),
    "oidc_not_linked": (403, "The identity at the provider belongs to no account"),
    "email_not_verified": (403, "The e-mail address is not verified yet"),
    "organization_suspended": (403, "The organization is suspended"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "conflict": (409, "The request conflicts with the present state"),
    "project_name_taken": (409, "The project name is taken"),
    "export_in_progress": (409, "An export is running already"),
    "deletion_in_progress": (409, "A deletion is running already"),
    "legal_hold": (409, "A legal hold keeps the data"),
    "oidc_already_linked": (409, "The identity at the provider belongs to another account"),
    "last_owner": (409, "An organization needs an owner"),
    "role_builtin": (409, "A built-in role stays as it is"),
    "role_name_taken": (409, "The role name is taken"),
    "role_in_use": (409, "The role is in use"),
    "team_name_taken": (409, "The team name is taken"),
    "invitation_pending": (409, "An invitation is waiting already"),
    "already_member": (409, "The person is a member already"),
    "session_closed": (409, "The session is closed"),
    "idempotency_in_progress": (409, "A request with this Idempotency-Key is still running"),
    "precondition_failed": (412, "The version has changed"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body must be JSON"),
    "invalid_request": (422, "The request is not valid"),
    "weak_password": (422, "The password is too weak"),
    "idempotency_key_reused": (422, "The Idempotency-Key was used for another request"),
    "account_locked": (429, "Too many failed log-ins"),
    "rate_limited": (429, "Too many requests"),
    "oidc_unavailable": (503, "The provider cannot be reached"),
    "internal_error": (500, "Something went wrong on our side"),
    "gateway_timeout": (504, "The service did not answer in time"),
    "unavailable": (503, "The service is not available for the moment"),
}


class Problem(Exception):
    """An answer that is not a success: a code of the list, a sentence for people, optional field errors and headers."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: dict[str, list[str]] | None = None,
        headers: dict[str, str] | None = None,
        extra: dict[str, object] | None = None,
        commits: bool = False,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status, self.title = CODES[code]
        self.detail = detail or self.title + "."
        self.errors = errors
        self.headers = headers or {}
        self.extra = extra or {}
        self.commits = commits  # a refusal whose transaction must survive

    def body(self, request_id: str, base: str) -> dict[str, object]:
        """The problem document."""
        document: dict[str, object] = {
            "type": f"{base}/docs/errors/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            **self.extra,
        }
        if self.errors is not None:
            document["errors"] = self.errors
        return document


def unauthenticated(detail: str = "", *, error: str = "invalid_token") -> Problem:
    """401 with the challenge of RFC 6750."""
    return Problem("invalid_token", detail, headers={"WWW-Authenticate": f'Bearer error="{error}"'})


def not_found() -> Problem:
    """404, the same for what does not exist and for what belongs to another organization."""
    return Problem("not_found", "There is no such object.")


def conflict(code: str, detail: str) -> Problem:
    """409 with one of the conflict codes."""
    return Problem(code, detail)


def invalid(errors: dict[str, list[str]]) -> Problem:
    """422 with the messages for each field."""
    return Problem("invalid_request", "Some fields are not valid.", errors=errors)
