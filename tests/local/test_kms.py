"""The Cloud KMS stand-in, and how the product wraps and unwraps keys with it."""

import base64
import json
import stat
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import google_crc32c
import pytest
import requests
from google.oauth2.credentials import Credentials

from common import kms, secrets, vault
from common.settings import settings
from functions.keys import rings
from functions.keys.wrapping import wrapped
from local import keys
from local.identity import Issuer
from local.kms import Keeper
from local.layout import KEY, PROJECT, Layout, service_account
from local.secrets_store import SecretStore

PLAIN = b"a data key of thirty-two bytes.."


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def ask(layout: Layout, start: Any) -> Iterator[Callable[..., requests.Response]]:
    """A raw request: `ask("auth", "decrypt", ciphertext="…")`."""

    def post(service: str, method: str, key: str = KEY, token: str | None = None, **body: Any) -> requests.Response:
        token = token or Issuer(layout.root).access_token(service_account(service))
        url = f"{layout.url('kms')}/v1/{key}:{method}"
        return requests.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=5)

    with start("local.kms", layout, "kms"):
        yield post


@pytest.fixture
def become(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`become("auth")`: common.kms speaks as this service from now on."""
    required = dict.fromkeys(("SERVICE", "DATABASE_URL", "PUBLIC_URL", "SERVICE_URL"), "-")
    own = {"KMS_ENDPOINT": layout.url("kms"), "KMS_KEY": KEY, "SECRETS_DIR": str(layout.path("mounts", "auth"))}
    for name, value in {**required, **own}.items():
        monkeypatch.setenv(name, value)

    def forget() -> None:
        settings.cache_clear()
        kms._session.cache_clear()
        kms.unwrap.cache_clear()
        secrets._seen.clear()

    def choose(service: str) -> None:
        token = Issuer(layout.root).access_token(service_account(service))
        credentials = Credentials(token)  # type: ignore[no-untyped-call]
        monkeypatch.setattr("google.auth.default", lambda **_: (credentials, PROJECT))
        forget()

    yield choose
    forget()


def test_what_is_wrapped_is_unwrapped_for_its_place_alone(ask: Any, become: Any) -> None:
    become("keys")
    text_of_key = kms.wrap(PLAIN, "mfa-key", "kid")
    assert PLAIN not in base64.b64decode(text_of_key)
    assert kms.wrap(PLAIN, "mfa-key", "kid") != text_of_key

    become("auth")
    assert kms.unwrap(text_of_key, "mfa-key", "kid") == PLAIN
    for bound in (("mfa-key", "other"), ("phone-key", "kid"), ("mfa-key",), ()):
        with pytest.raises(kms.Refused):
            kms.unwrap(text_of_key, *bound)
    damaged = bytearray(base64.b64decode(text_of_key))
    damaged[-1] ^= 1
    for other in (text(bytes(damaged)), text(b"short"), "no base64!", ""):
        with pytest.raises(kms.Refused):
            kms.unwrap(other, "mfa-key", "kid")


def test_once_per_process(ask: Any, become: Any, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped_key = text(Keeper(layout.root).encrypt(PLAIN, kms.associated(("mfa-key", "kid"))))
    become("auth")
    assert kms.unwrap(wrapped_key, "mfa-key", "kid") == PLAIN
    monkeypatch.setenv("KMS_ENDPOINT", "http://127.0.0.1:9")
    settings.cache_clear()

    assert kms.unwrap(wrapped_key, "mfa-key", "kid") == PLAIN
    with pytest.raises(kms.Unavailable):
        kms.unwrap(wrapped_key, "mfa-key", "another")


def test_a_disabled_version_is_no_altered_key(
    ask: Any, become: Any, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google answers 400 to both. What cannot be read for now is not left out of a copy or a search: 503."""
    wrapped_key = text(Keeper(layout.root).encrypt(PLAIN, kms.associated(("mfa-key", "kid"))))
    become("auth")
    message = "cryptoKeyVersions/1 is not enabled, current state is: DISABLED."
    disabled = {"error": {"code": 400, "message": message, "status": "FAILED_PRECONDITION"}}

    class Disabled(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(400)
            self.end_headers()
            self.wfile.write(json.dumps(disabled).encode())

        def log_message(self, *_: object) -> None:
            """Not into the output of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Disabled) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("KMS_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        settings.cache_clear()
        with pytest.raises(kms.Unavailable):
            kms.unwrap(wrapped_key, "mfa-key", "kid")
        server.shutdown()


def test_new_versions_of_the_kms_key(ask: Any, become: Any, layout: Layout) -> None:
    keeper = Keeper(layout.root)
    old = keeper.encrypt(PLAIN, b"")
    keeper.rotate()

    answer = ask("auth", "decrypt", ciphertext=text(old)).json()
    assert (base64.b64decode(answer["plaintext"]), answer["usedPrimary"]) == (PLAIN, False)
    answer = ask("keys", "encrypt", plaintext=text(PLAIN)).json()
    assert answer["name"] == f"{KEY}/cryptoKeyVersions/2"
    assert ask("auth", "decrypt", ciphertext=answer["ciphertext"]).json()["usedPrimary"] is True


@pytest.mark.parametrize(
    ("service", "method", "status"),
    [
        ("auth", "decrypt", 200),
        ("exports-jobs", "decrypt", 200),
        ("deletions-jobs", "decrypt", 200),
        ("keys", "encrypt", 200),
        ("operator", "decrypt", 403),
        ("tester", "decrypt", 200),
        ("auth", "encrypt", 403),
        ("keys", "decrypt", 403),
        ("projects", "decrypt", 403),
        ("exports", "decrypt", 403),
        ("gateway", "decrypt", 403),
    ],
)
def test_who_may(ask: Any, layout: Layout, service: str, method: str, status: int) -> None:
    ciphertext = text(Keeper(layout.root).encrypt(PLAIN, b""))
    body = {"ciphertext": ciphertext} if method == "decrypt" else {"plaintext": text(PLAIN)}

    assert ask(service, method, **body).status_code == status


def test_no_token(ask: Any) -> None:
    assert ask("auth", "decrypt", token="nonsense", ciphertext="").status_code == 401


def test_another_key_is_not_there(ask: Any) -> None:
    assert ask("auth", "decrypt", key=KEY.replace("fields", "others"), ciphertext="").status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"plaintext": "no base64!"},
        {"plaintext": text(PLAIN), "plaintextCrc32c": "1"},
        {"plaintext": text(PLAIN), "additionalAuthenticatedData": text(b"x"), "additionalAuthenticatedDataCrc32c": "1"},
        {"plaintext": text(b"x" * 65_537)},
        {"plain": "x"},
    ],
)
def test_bad_requests(ask: Any, body: dict[str, str]) -> None:
    answer = ask("keys", "encrypt", **body)

    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_checksums(ask: Any) -> None:
    checksum = str(google_crc32c.value(PLAIN))
    answer = ask("keys", "encrypt", plaintext=text(PLAIN), plaintextCrc32c=checksum).json()

    assert answer["verifiedPlaintextCrc32c"] is True
    assert answer["verifiedAdditionalAuthenticatedDataCrc32c"] is False
    assert answer["ciphertextCrc32c"] == str(google_crc32c.value(base64.b64decode(answer["ciphertext"])))


@pytest.mark.parametrize("service", ["projects", "keys"])
def test_who_is_not_let_in_gets_no_key(ask: Any, become: Any, service: str) -> None:
    become(service)
    with pytest.raises(kms.Unavailable) as error:
        kms.unwrap(text(b"x" * 60), "mfa-key", "kid")
    assert (error.value.status, error.value.code) == (503, "unavailable")


def test_a_damaged_answer_is_not_used(layout: Layout, become: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    become("auth")
    answers = [{"plaintext": text(b"damaged"), "plaintextCrc32c": str(google_crc32c.value(PLAIN))}] * 2
    answers.append({"plaintext": text(PLAIN), "plaintextCrc32c": str(google_crc32c.value(PLAIN))})

    class Line:
        """A connection on which the first two answers are damaged."""

        def post(self, *_: Any, **__: Any) -> Any:
            answer = requests.Response()
            answer.status_code = 200
            answer._content = json.dumps(answers.pop(0)).encode()
            return answer

    monkeypatch.setattr(kms, "_session", cache(Line))
    with pytest.raises(kms.Unavailable):
        kms.unwrap(text(b"x"), "mfa-key", "kid")
    assert len(answers) == 1
    assert kms.unwrap(text(b"x"), "mfa-key", "kid") == PLAIN


def test_rings_of_a_new_stack_are_wrapped_and_those_of_an_old_one_become_so(
    ask: Any, become: Any, layout: Layout
) -> None:
    """And what was sealed under the plain key is read under the wrapped one: it is the same key."""
    store = SecretStore(layout.root)
    plain = {"active": "old", "keys": {"old": rings.fresh("HS256")}}
    store.add("mfa-key", json.dumps(plain).encode())
    folder = layout.path("mounts", "auth", "mfa-key")
    folder.mkdir(parents=True)
    (folder / "latest").write_bytes(store.latest("mfa-key") or b"")
    become("auth")
    sealed = vault.seal("mfa-key", b"secret", "x")

    keys.seed(layout.path(), {})
    keys.mount(layout.path())

    for id in ("mfa-key", "phone-key"):
        ring = json.loads(store.latest(id) or b"")
        assert {name for entry in ring["keys"].values() for name in entry} == {"algorithm", "wrapped"}
    assert (len(store.versions("mfa-key")), len(store.versions("phone-key"))) == (2, 1)
    become("auth")
    assert vault.read("mfa-key", sealed, "x") == b"secret"
    assert not vault.outdated("mfa-key", sealed)
    versions = {id: len(store.versions(id)) for id in store.ids()}
    keys.seed(layout.path(), {})
    assert {id: len(store.versions(id)) for id in store.ids()} == versions


def test_a_wrapped_key_in_another_place_of_a_ring_is_unreadable(ask: Any, become: Any, layout: Layout) -> None:
    keys.seed(layout.path(), {})
    keys.mount(layout.path())
    become("auth")
    version, kid, sealed = vault.seal("mfa-key", b"secret", "x").split(".")
    store = SecretStore(layout.root)
    ring = json.loads(store.latest("mfa-key") or b"")
    ring["keys"]["moved"] = ring["keys"][kid]
    store.add("mfa-key", json.dumps(ring).encode())
    secrets._seen.clear()

    assert vault.read("mfa-key", f"{version}.{kid}.{sealed}", "x") == b"secret"
    with pytest.raises(vault.Unreadable):
        vault.read("mfa-key", f"{version}.moved.{sealed}", "x")


def test_the_key_material_is_the_owners(layout: Layout) -> None:
    Keeper(layout.root)
    assert stat.S_IMODE(layout.path("kms", "key.json").stat().st_mode) == 0o600


def test_wrapping_leaves_what_is_wrapped_and_what_is_told_of_it() -> None:
    ring = {"active": "a", "keys": {"a": {"algorithm": "HS256", "wrapped": "w", "created_at": 1}}}
    ring["keys"]["b"] = {**rings.fresh("HS256"), "created_at": 2}  # type: ignore[index]

    after, done = wrapped("mfa-key", ring, lambda plain, *bound: f"{len(plain)} {bound}")

    assert done == ["wrapped b"]
    assert after["keys"]["a"] == ring["keys"]["a"]  # type: ignore[index]
    assert after["keys"]["b"] == {"algorithm": "HS256", "created_at": 2, "wrapped": "32 ('mfa-key', 'b')"}
    assert wrapped("mfa-key", after, lambda *_: "never") == (after, [])
