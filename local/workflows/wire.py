"""Sends the requests of http.* calls, with identity tokens of the workflows account."""

import asyncio
import base64

import aiohttp
from multidict import CIMultiDict

from local.identity import Issuer
from local.layout import service_account
from local.workflows.calls import MAX_RESPONSE, Http, Outcome

ACCOUNT = service_account("workflows")
AGENT = "GoogleCloudWorkflows; (+https://cloud.google.com/workflows/docs)"
MAX_REDIRECTS = 8


class Wire:
    """One HTTP client. Connections are not kept: a stale one would look like a failed call."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def send(self, request: Http) -> Outcome:
        """The response, or the tag of the error that Workflows raises without one."""
        headers = CIMultiDict({"User-Agent": AGENT, **request.headers})
        if request.audience is not None:
            headers["Authorization"] = f"Bearer {self.issuer.identity_token(ACCOUNT, request.audience)}"
        try:
            async with self.session.request(
                request.method,
                request.url,
                headers=headers,
                data=request.body,
                timeout=aiohttp.ClientTimeout(total=request.timeout),
                max_redirects=MAX_REDIRECTS,
                skip_auto_headers=() if request.body is None else ("Content-Type",),
            ) as response:
                return await _outcome(response)
        except TimeoutError:
            return _failed("TimeoutError", f"no response within {request.timeout:g} seconds")
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            return _failed("ConnectionFailedError", f"no connection: {type(error).__name__}")
        except (aiohttp.ClientError, OSError) as error:
            return _failed("ConnectionError", f"the connection broke: {type(error).__name__}")

    async def close(self) -> None:
        """Close the client."""
        await self.session.close()
        await asyncio.sleep(0)


async def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_RESPONSE:
            return _failed("ResourceLimitError", f"the response is larger than {MAX_RESPONSE // 1024 // 1024} MB")
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        key = "-".join(part.capitalize() for part in name.split("-"))
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return {"code": response.status, "headers": headers, "body": base64.b64encode(bytes(body)).decode()}


def _failed(tag: str, message: str) -> Outcome:
    return {"tag": tag, "message": message}
