"""The metadata server of Compute Engine, one port per service account, and the IAM Credentials signBlob method."""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from aiohttp import web

from local import grants
from local.identity import EMAIL, Issuer
from local.layout import PROJECT, REGION, Layout, service_account
from local.serving import arguments, bearer, http, refusal, stopped

TOKEN_SECONDS = 3600
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
ROOT = "/computeMetadata/v1"
UNGUARDED = ("/certs", "/v1/projects/")


class Account:
    """What the metadata server says about one service account."""

    def __init__(self, issuer: Issuer, email: str) -> None:
        self.issuer = issuer
        self.email = email

    def description(self) -> dict[str, object]:
        """The account as `?recursive=true` shows it."""
        return {"aliases": ["default"], "email": self.email, "scopes": SCOPES}

    async def list(self, request: web.Request) -> web.Response:
        """The accounts of this machine: `default` and its e-mail, the same one."""
        if _recursive(request):
            return web.json_response({"default": self.description(), self.email: self.description()})
        return web.Response(text=f"default/\n{self.email}/\n")

    async def one(self, request: web.Request) -> web.Response:
        """The names of an account's values, or the values."""
        if _recursive(request):
            return web.json_response(self.description())
        return web.Response(text="aliases\nemail\nidentity\nscopes\ntoken\n")

    async def value(self, request: web.Request) -> web.Response:
        """One value: email, scopes, aliases, token or identity."""
        name = request.match_info["name"]
        if name == "token":
            scopes = request.query.get("scopes", ",".join(SCOPES)).split(",")
            token = self.issuer.access_token(self.email, scopes, TOKEN_SECONDS)
            return web.json_response({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"})
        if name == "identity":
            audience = request.query.get("audience")
            if not audience:
                return web.Response(status=400, text="non-empty audience parameter required")
            return web.Response(text=self.issuer.identity_token(self.email, audience, TOKEN_SECONDS))
        texts = {"email": self.email, "scopes": "\n".join(SCOPES), "aliases": "default"}
        return web.Response(text=texts[name]) if name in texts else web.Response(status=404)


def metadata(issuer: Issuer, email: str) -> web.Application:
    """The metadata server as one service account sees it."""
    account = Account(issuer, email)
    application = web.Application(middlewares=[flavored])
    known = f"{ROOT}/instance/service-accounts/{{account:default|{email.replace('.', '[.]')}}}"
    texts = {
        "/": "computeMetadata/\n",
        f"{ROOT}/project/project-id": PROJECT,
        f"{ROOT}/universe/universe-domain": "googleapis.com",
        f"{ROOT}/instance/region": f"projects/{PROJECT}/regions/{REGION}",
    }
    for path, text in texts.items():
        application.router.add_get(path, _constant(text))
    application.router.add_get(f"{ROOT}/instance/service-accounts/", account.list)
    application.router.add_get(f"{known}/", account.one)
    application.router.add_get(f"{known}/{{name}}", account.value)
    return application


def credentials(application: web.Application, issuer: Issuer) -> None:
    """Add the key set of the identity tokens, and projects.serviceAccounts.signBlob of the IAM Credentials API."""

    async def certs(request: web.Request) -> web.Response:
        return web.json_response(issuer.jwks(), headers={"Cache-Control": "public, max-age=3600"})

    async def sign(request: web.Request, caller: str) -> web.StreamResponse:
        email = request.match_info["email"]
        signs = caller not in grants.known() or caller in grants.having("signs_urls")
        if caller != email or not signs or not EMAIL.fullmatch(email):
            grants.refuse(caller, "iam.serviceAccounts.signBlob", email)
            return refusal(403, "Permission 'iam.serviceAccounts.signBlob' denied on resource (or it may not exist).")
        try:
            blob = base64.b64decode((await request.json())["payload"], validate=True)
        except (ValueError, TypeError, KeyError, binascii.Error):
            return refusal(400, "The body must be JSON with the payload in base64.")
        key_id, signature = issuer.sign_blob(email, blob)
        return web.json_response({"keyId": key_id, "signedBlob": base64.b64encode(signature).decode()})

    application.router.add_get("/certs", certs)
    application.router.add_post("/v1/projects/-/serviceAccounts/{email}:signBlob", bearer(issuer, sign))


@web.middleware
async def flavored(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse what a browser or a proxy could have been tricked into sending, as the real server does."""
    direct = request.headers.get("Metadata-Flavor") == "Google" and "X-Forwarded-For" not in request.headers
    if not direct and not request.path.startswith(UNGUARDED):
        return web.Response(status=403, text="Missing Metadata-Flavor:Google header.", headers=FLAVOR)
    response = await handler(request)
    response.headers.update(FLAVOR)
    return response


def _recursive(request: web.Request) -> bool:
    return request.query.get("recursive", "").lower() == "true"


def _constant(text: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text)

    return answer


async def serve(layout: Layout) -> None:
    """Listen on every `metadata:…` port, the gateway's last: when it is open, all are."""
    issuer = Issuer(layout.root)
    names = [key.partition(":")[2] for key in layout.ports if key.startswith("metadata:")]
    async with AsyncExitStack() as stack:
        for name in sorted(names, key="gateway".__eq__):
            application = metadata(issuer, service_account(name))
            if name == "gateway":
                credentials(application, issuer)
            await stack.enter_async_context(http(application, layout.ports[f"metadata:{name}"]))
        await stopped()


if __name__ == "__main__":
    asyncio.run(serve(arguments(__doc__ or "").parse_args().layout))
