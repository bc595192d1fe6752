"""Refusals of the storage stand-in, in the two forms in which Google words them: JSON and XML."""

from http import HTTPStatus
from xml.sax.saxutils import escape

from aiohttp import web

XML_CODES = {401: "AuthenticationRequired", 403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}
XML_MESSAGES = {
    "AccessDenied": "Access denied.",
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchBucket": "The specified bucket does not exist.",
    "PreconditionFailed": "At least one of the pre-conditions you specified did not hold.",
    "SignatureDoesNotMatch": "Access denied.",
}


class Problem(Exception):
    """A refusal: HTTP status, Google's `reason` (JSON) and `Code` (XML), and a sentence."""

    def __init__(self, status: int, reason: str, message: str, *, code: str = "", location: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.code = code or XML_CODES.get(status, "InvalidArgument")
        self.location = location

    def json(self) -> web.Response:
        """`{"error": {"code", "message", "errors": [{"message", "domain", "reason"}]}}`."""
        if self.status == HTTPStatus.NOT_MODIFIED:
            return web.Response(status=self.status)
        item = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            item |= {"locationType": "header", "location": self.location}
        headers = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'} if self.status == 401 else {}
        body = {"error": {"code": self.status, "message": self.message, "errors": [item]}}
        return web.json_response(body, status=self.status, headers=headers)

    def xml(self) -> web.Response:
        """`<Error><Code>…</Code><Message>…</Message><Details>…</Details></Error>`."""
        if self.status == HTTPStatus.NOT_MODIFIED:
            return web.Response(status=self.status)
        message = XML_MESSAGES.get(self.code, "Invalid argument.")
        status = 403 if self.code == "AccessDenied" else self.status  # the JSON API says 401 to the same caller
        text = (
            "<?xml version='1.0' encoding='UTF-8'?>"
            f"<Error><Code>{self.code}</Code><Message>{escape(message)}</Message>"
            f"<Details>{escape(self.message)}</Details></Error>"
        )
        return web.Response(status=status, text=text, content_type="application/xml", charset="UTF-8")


def invalid(message: str) -> Problem:
    """400: the request does not fit the API."""
    return Problem(400, "invalid", message)


def no_object(bucket: str, name: str) -> Problem:
    """404: no such object."""
    return Problem(404, "notFound", f"No such object: {bucket}/{name}")


def no_bucket() -> Problem:
    """404: no such bucket."""
    return Problem(404, "notFound", "The specified bucket does not exist.", code="NoSuchBucket")


def condition_not_met() -> Problem:
    """412: a precondition on generation or metageneration does not hold."""
    message = "At least one of the pre-conditions you specified did not hold."
    return Problem(412, "conditionNotMet", message, location="If-Match")


def not_modified() -> Problem:
    """304: a negative precondition of a read does not hold."""
    return Problem(304, "notModified", "Not Modified")
