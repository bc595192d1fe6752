"""A provider that does what a test tells it, also what no honest one would; the files that make a stack know it."""

import base64
import hashlib
import hmac
import json
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

CLIENT = "dev-context"
SECRET = "oidc-client-secret"
DOMAIN = "trusted.example"
AUDIENCE = "dev-context-api"
SCOPE = "context"
HUGE = 300 * 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Grant:
    """What a code stands for: the answer of the token endpoint, once, for the right verifier."""

    answer: dict[str, Any]
    challenge: str
    status: int = 200


@dataclass
class Provider:
    """One server with an issuer per path: the first part of a path is the name of a provider."""

    port: int
    folder: Path
    hits: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    grants: dict[str, Grant] = field(default_factory=dict)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys_are_away: bool = False
    nano_port: int = field(default_factory=free_port)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def issuer(self, name: str = "honest") -> str:
        return f"{self.base}/{name}"

    @cached_property
    def rsa_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @cached_property
    def stranger(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @cached_property
    def small(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 1024)  # noqa: S505 - refused for it

    @cached_property
    def ec_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    def jwks(self) -> dict[str, Any]:
        known = [
            {**json.loads(RSAAlgorithm.to_jwk(self.rsa_key.public_key())), "kid": "rsa", "use": "sig"},
            {**json.loads(RSAAlgorithm.to_jwk(self.small.public_key())), "kid": "small", "use": "sig"},
            {**json.loads(ECAlgorithm.to_jwk(self.ec_key.public_key())), "kid": "ec", "use": "sig", "alg": "ES256"},
            {"kty": "oct", "kid": "shared", "k": encoded(b"0" * 32)},
        ]
        return {"keys": known}

    def sign(self, claims: dict[str, Any], *, alg: str = "RS256", key: Any = None, **head: Any) -> str:
        """A token, made by hand as an attacker would; a header member of None is left out."""
        kids = {"RS256": "rsa", "ES256": "ec"}
        headers = {"typ": "JWT", "alg": alg, "kid": kids.get(alg, "rsa"), **head}
        if alg == "ES256":
            return jwt.encode(claims, self.ec_key, alg, headers=headers)
        kept = {name: value for name, value in headers.items() if value is not None}
        signed = f"{encoded(kept)}.{encoded(claims)}"
        if alg == "none":
            signature = b""
        elif alg == "HS256":
            signature = hmac.digest(key, signed.encode(), "sha256")
        else:
            signature = (key or self.rsa_key).sign(signed.encode(), PKCS1v15(), SHA256())
        return f"{signed}.{encoded(signature)}"

    def grant(
        self,
        asked: dict[str, str],
        *,
        issuer: str = "honest",
        token: dict[str, Any] | None = None,
        userinfo: dict[str, Any] | None = None,
        status: int = 200,
        without: tuple[str, ...] = (),
        **claims: Any,
    ) -> str:
        """A code for what the browser asked; `claims` change the ID token, `token` how it is signed."""
        now, code, access_token = int(time.time()), secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        usual = {
            "iss": self.issuer(issuer),
            "aud": CLIENT,
            "sub": f"person-{secrets.token_hex(4)}",
            "nonce": asked["nonce"],
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "at_hash": encoded(hashlib.sha256(access_token.encode()).digest()[:16]),
        }
        said = {key: value for key, value in {**usual, **claims}.items() if key not in without}
        answer = {"access_token": access_token, "token_type": "Bearer", "id_token": self.sign(said, **(token or {}))}
        if "id_token" in without:
            del answer["id_token"]
        self.grants[code] = Grant(answer, asked["code_challenge"], status)
        self.people[access_token] = userinfo or {"sub": said.get("sub")}
        return code

    def bearer(self, name: str, subject: str, tenant_id: str | None, **changes: Any) -> dict[str, str]:
        """The Authorization of an access token of this issuer; a claim of None is left out, `token` says how signed."""
        token, now = changes.pop("token", {}), int(time.time())
        usual = {"iss": self.issuer(name), "aud": AUDIENCE, "sub": subject, "exp": now + 300, "iat": now}
        usual |= {"scope": f"openid {SCOPE}", "tenant_id": tenant_id, "client_id": "outside"}
        claims = {key: value for key, value in {**usual, **changes}.items() if value is not None}
        return {"Authorization": "Bearer " + self.sign(claims, **{"typ": "at+jwt", **token})}

    def configuration(self, name: str) -> dict[str, Any]:
        """The discovery document of one of the issuers."""
        issuer = self.issuer(name)
        document: dict[str, Any] = {
            "issuer": issuer + "/other" if name == "misnamed" else issuer,
            "authorization_endpoint": issuer + "/authorize",
            "token_endpoint": "http://198.51.100.1/token" if name == "plain" else issuer + "/token",
            "jwks_uri": issuer + "/jwks",
            "userinfo_endpoint": issuer + "/userinfo",
        }
        if name == "careful":
            document["authorization_response_iss_parameter_supported"] = True
        if name == "posting":
            document["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
        return document

    def settings(self) -> dict[str, str]:
        """The environment of a stack that knows all of this."""
        names = ("honest", "other", "careful", "posting", "misnamed", "plain", "moved", "huge", "slow")
        client = {"client_id": CLIENT, "client_secret": SECRET, "trusted_email_domains": [DOMAIN]}
        providers = {name: {"issuer": self.issuer(name), **client} for name in names}
        providers["public"] = {"issuer": self.issuer("public"), "client_id": CLIENT, "trusted_email_domains": [DOMAIN]}
        providers["away"] = {"issuer": f"http://127.0.0.1:{free_port()}", **client}
        providers["nano"] = {"issuer": f"http://127.0.0.1:{self.nano_port}", **client}
        entry = {"audience": AUDIENCE, "required_scope": SCOPE}
        issuers: dict[str, dict[str, Any]] = {
            self.issuer(name): {"jwks_uri": f"{self.issuer(name)}/jwks", **entry} for name in TRUSTED
        }
        issuers[self.issuer("strong")]["satisfies_step_up"] = True
        (self.folder / "providers.yaml").write_text(yaml.safe_dump(providers))
        (self.folder / "issuers.yaml").write_text(yaml.safe_dump(issuers))
        return {
            "OIDC_PROVIDERS": str(self.folder / "providers.yaml"),
            "TRUSTED_ISSUERS": str(self.folder / "issuers.yaml"),
        }


TRUSTED = ("hydra", "strong", "moved", "huge", "fading")


class Handler(BaseHTTPRequestHandler):
    """Answers for every issuer of the provider."""

    provider: Provider

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.provider.hits[path] += 1
        _, name, *rest = path.split("/")
        if rest == [".well-known", "openid-configuration"]:
            self.answer(200, self.provider.configuration(name))
        elif rest == ["jwks"]:
            self.send_keys(name)
        elif rest == ["userinfo"]:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self.answer(200, self.provider.people.get(token, {}))
        else:
            self.answer(404, {})

    def send_keys(self, name: str) -> None:
        if name == "moved":
            self.answer(302, self.provider.jwks(), Location=self.provider.issuer("honest") + "/jwks")
        elif name == "huge":
            self.answer(200, {**self.provider.jwks(), "more": "x" * HUGE})
        elif name == "slow":
            self.drip()
        elif name == "fading" and self.provider.keys_are_away:
            self.answer(500, {})
        else:
            self.answer(200, self.provider.jwks())

    def drip(self) -> None:
        """One byte every half second: each read succeeds, the whole takes for ever."""
        self.send_response(200)
        self.end_headers()
        for letter in json.dumps(self.provider.jwks()):
            try:
                self.wfile.write(letter.encode())
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.5)

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.provider.hits[path] += 1
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.provider.requests.append((path, form, dict(self.headers.items())))
        grant = self.provider.grants.pop(form.get("code", ""), None)
        proof = encoded(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if grant is None or proof != grant.challenge:
            self.answer(400, {"error": "invalid_grant"})
        else:
            self.answer(grant.status, grant.answer)

    def answer(self, status: int, document: dict[str, Any], **headers: str) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def running_provider(folder: Path) -> Iterator[Provider]:
    """The server, on a port of its own, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider = Provider(server.server_address[1], folder)
    Handler.provider = provider
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()


class Browser:
    """Keeps the cookies that the API sets, as a browser would."""

    def __init__(self, api: Any) -> None:
        self.api, self.cookies = api, dict[str, str]()

    def get(self, path: str, **headers: str) -> Any:
        kept = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self.api.get(path, headers={**headers, **({"Cookie": kept} if kept else {})})
        for line in answer.response.raw.headers.getlist("Set-Cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
            if not value:
                del self.cookies[name]
        return answer

    def start(self, name: str = "honest", query: str = "", **headers: str) -> dict[str, str]:
        """Leave for the provider; what it is asked."""
        answer = self.get(f"/v1/auth/oidc/{name}/start{query}", **headers)
        assert answer.status_code == 302, answer.text
        asked = parse_qs(urlsplit(answer.headers["Location"]).query, strict_parsing=True)
        return {key: unquote(value[0]) if key == "redirect_uri" else value[0] for key, value in asked.items()}

    def come_back(self, code: str, asked: dict[str, str], name: str = "honest", more: str = "") -> Any:
        """Return from the provider with its code."""
        return self.get(f"/v1/auth/oidc/{name}/callback?code={code}&state={asked['state']}{more}")
