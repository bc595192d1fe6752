"""A stand-in for Cloud SQL: the two Admin API calls of the connectors, and the TLS door in front of PostgreSQL."""

import argparse
import os
import threading
import traceback
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from local import grants
from local.cloudsql_ca import Authority
from local.cloudsql_door import Door, server_context
from local.durable import replace
from local.identity import Issuer, Refused
from local.layout import HOST, PROJECT, REGION, Layout
from local.postgres_home import socket_dir

INSTANCE = "main"
DOOR_PORT = 3307
BASE = "/sql/v1beta4/projects/{project}/instances/{instance}"


class AdminApi:
    """`connectSettings` and `generateEphemeralCert`, for bearers of an access token."""

    def __init__(self, authority: Authority, issuer: Issuer, door: str) -> None:
        self.authority = authority
        self.issuer = issuer
        self.door = door

    async def settings(self, request: web.Request) -> web.Response:
        """Where the instance is and which authority signs its certificate."""
        self._check(request)
        return web.json_response(
            {
                "kind": "sql#connectSettings",
                "serverCaCert": described(self.authority.pem()),
                "ipAddresses": [{"type": "PRIVATE", "ipAddress": self.door}],
                "region": REGION,
                "databaseVersion": "POSTGRES_18",
                "backendType": "SECOND_GEN",
                "serverCaMode": "GOOGLE_MANAGED_INTERNAL_CA",
                "pscEnabled": False,
            }
        )

    async def certificate(self, request: web.Request) -> web.Response:
        """An ephemeral client certificate; with `access_token` it proves that account to the door."""
        self._check(request)
        try:
            body: dict[str, Any] = await request.json()
            token = body.get("access_token")
            email = self.issuer.verify_access_token(f"Bearer {token}") if token else None
            pem = self.authority.ephemeral(str(body.get("public_key", "")).encode(), email)
        except Refused as error:
            raise refused(401, "authError", "The log-in token is not valid.") from error
        except (ValueError, AttributeError) as error:
            raise refused(400, "invalid", "The request needs a PEM public_key.") from error
        return web.json_response({"ephemeralCert": described(pem)})

    def _check(self, request: web.Request) -> None:
        try:
            caller = self.issuer.verify_access_token(request.headers.get("Authorization"))
        except Refused as error:
            raise refused(401, "authError", "Request had invalid authentication credentials.") from error
        if (request.match_info["project"], request.match_info["instance"]) != (PROJECT, INSTANCE):
            raise refused(404, "instanceDoesNotExist", "The Cloud SQL instance does not exist.")
        if caller in grants.callers():
            grants.refuse(caller, "cloudsql.instances.connect", INSTANCE)
            raise refused(403, "notAuthorized", "The client is not authorized to make this request.")


def described(pem: bytes) -> dict[str, str]:
    """`sql#sslCert`."""
    certificate = x509.load_pem_x509_certificate(pem)
    name = certificate.subject.rfc4514_string().partition("=")[2]
    return {
        "kind": "sql#sslCert",
        "cert": pem.decode(),
        "certSerialNumber": str(certificate.serial_number),
        "commonName": name,
        "createTime": certificate.not_valid_before_utc.isoformat(),
        "expirationTime": certificate.not_valid_after_utc.isoformat(),
        "sha1Fingerprint": certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - the API's field
        "instance": INSTANCE,
    }


def refused(status: int, reason: str, message: str) -> web.HTTPException:
    """Google's error form, to be raised."""
    error = {"code": status, "message": message, "errors": [{"domain": "global", "reason": reason, "message": message}]}
    kinds = {400: web.HTTPBadRequest, 401: web.HTTPUnauthorized, 403: web.HTTPForbidden, 404: web.HTTPNotFound}
    return kinds[status](text=web.json_response({"error": error}).text, content_type="application/json")


def open_door(layout: Layout, folder: Path, authority: Authority) -> Door:
    """Make the door's certificate anew and listen."""
    replace(folder / "server.pem", authority.server(f"{PROJECT}:{REGION}:{INSTANCE}", layout.door))
    replace(folder / "authority.pem", authority.pem())
    context = server_context(folder / "server.pem", folder / "authority.pem")
    name = f".s.PGSQL.{layout.ports['postgres']}"
    return Door((layout.door, DOOR_PORT), context, lambda: socket_dir(Path(layout.root)) / name)


def keep_open(door: Door) -> None:
    """Serve at the door; the process does not outlive it, so that the supervisor sees a fault and starts it again."""
    try:
        door.serve()
    finally:
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", required=True, help="path of layout.json")
    layout = Layout.load(parser.parse_args().layout)
    folder = layout.path("cloudsql")
    authority = Authority.open(folder)
    api = AdminApi(authority, Issuer(layout.root), layout.door)
    threading.Thread(target=keep_open, args=(open_door(layout, folder, authority),), daemon=True).start()
    app = web.Application()
    app.router.add_get(BASE + "/connectSettings", api.settings)
    app.router.add_post(BASE + ":generateEphemeralCert", api.certificate)
    web.run_app(app, host=HOST, port=layout.ports["cloudsql"], shutdown_timeout=0.5, print=None, access_log=None)


if __name__ == "__main__":
    main()
