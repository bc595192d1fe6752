"""Cloud KMS as far as we use it: encrypt and decrypt of one symmetric key (REST v1), for those who may."""

import asyncio
import base64
import binascii
import json
import os
from pathlib import Path
from typing import Any

import google_crc32c
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from local import grants
from local.durable import locked, replace
from local.identity import Issuer
from local.layout import KEY, Layout
from local.serving import arguments, bearer, http, refusal, stopped

LARGEST = 64 * 1024
NONCE_BYTES = 12
WRONG = "Decryption failed: verify that 'name' refers to the correct CryptoKey."
FIELDS = {
    "encrypt": {"plaintext", "plaintextCrc32c", "additionalAuthenticatedData", "additionalAuthenticatedDataCrc32c"},
    "decrypt": {"ciphertext", "ciphertextCrc32c", "additionalAuthenticatedData", "additionalAuthenticatedDataCrc32c"},
}


class Invalid(Exception):
    """A request that Google answers with 400."""


class Keeper:
    """The key material, `<root>/kms/key.json`: the versions of the key, of which the newest one encrypts."""

    def __init__(self, root: str | Path) -> None:
        path = Path(root, "kms", "key.json")
        with locked(path.parent / "lock"):
            if not path.exists():
                replace(path, json.dumps({"1": base64.b64encode(os.urandom(32)).decode()}).encode())
        self.path = path

    def versions(self) -> dict[int, bytes]:
        """Number and material of every version."""
        return {int(number): base64.b64decode(key) for number, key in json.loads(self.path.read_bytes()).items()}

    def rotate(self) -> None:
        """A new version encrypts; what the earlier ones encrypted stays readable."""
        with locked(self.path.parent / "lock"):
            known = json.loads(self.path.read_bytes())
            known[str(max(map(int, known)) + 1)] = base64.b64encode(os.urandom(32)).decode()
            replace(self.path, json.dumps(known).encode())

    def encrypt(self, plain: bytes, associated: bytes) -> bytes:
        """The number of the version, a nonce, the ciphertext."""
        number, key = max(self.versions().items())
        beginning = number.to_bytes(4, "big") + os.urandom(NONCE_BYTES)
        return beginning + AESGCM(key).encrypt(beginning[4:], plain, KEY.encode() + b"\0" + associated)

    def decrypt(self, ciphertext: bytes, associated: bytes) -> tuple[bytes, bool]:
        """What was encrypted, and whether by the newest version. Raises Invalid."""
        versions = self.versions()
        number, nonce, sealed = int.from_bytes(ciphertext[:4], "big"), ciphertext[4:16], ciphertext[16:]
        try:
            plain = AESGCM(versions[number]).decrypt(nonce, sealed, KEY.encode() + b"\0" + associated)
        except (KeyError, ValueError, InvalidTag) as error:
            raise Invalid(WRONG) from error
        return plain, number == max(versions)


def granted() -> dict[str, set[str]]:
    """What each service account of the stack may do: who reads a wrapped ring decrypts, who rotates keys encrypts."""
    may = {"decrypt": grants.opening(), "encrypt": grants.having("secret_writer")}
    return {email: {method for method, who in may.items() if email in who} for email in grants.known()}


class Api:
    """POST …/cryptoKeys/fields:encrypt and :decrypt. Any account that is not the stack's own may do both."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.granted = granted()

    async def call(self, request: web.Request, caller: str) -> web.StreamResponse:
        """The answer, or Google's error."""
        name, method = request.match_info["name"], request.match_info["method"]
        if method not in self.granted.get(caller, FIELDS.keys()) or name != KEY:
            permission = f"cloudkms.cryptoKeyVersions.useTo{method.capitalize()}"
            grants.refuse(caller, permission, name)
            return refusal(403, f"Permission '{permission}' denied on resource '{name}' (or it may not exist).")
        try:
            body = await request.json()
            if not isinstance(body, dict) or not body.keys() <= FIELDS[method]:
                raise Invalid("Invalid JSON payload received. Unknown name.")
            return web.json_response(self._encrypt(body) if method == "encrypt" else self._decrypt(body))
        except Invalid as error:
            return refusal(400, str(error))
        except ValueError:
            return refusal(400, "Invalid JSON payload received.")

    def _encrypt(self, body: dict[str, str]) -> dict[str, Any]:
        ciphertext = self.keeper.encrypt(_given(body, "plaintext"), _given(body, "additionalAuthenticatedData"))
        return {
            "name": f"{KEY}/cryptoKeyVersions/{max(self.keeper.versions())}",
            "ciphertext": base64.b64encode(ciphertext).decode(),
            "ciphertextCrc32c": str(google_crc32c.value(ciphertext)),
            "verifiedPlaintextCrc32c": "plaintextCrc32c" in body,
            "verifiedAdditionalAuthenticatedDataCrc32c": "additionalAuthenticatedDataCrc32c" in body,
            "protectionLevel": "SOFTWARE",
        }

    def _decrypt(self, body: dict[str, str]) -> dict[str, Any]:
        ciphertext, associated = _given(body, "ciphertext"), _given(body, "additionalAuthenticatedData")
        plain, primary = self.keeper.decrypt(ciphertext, associated)
        return {
            "plaintext": base64.b64encode(plain).decode(),
            "plaintextCrc32c": str(google_crc32c.value(plain)),
            "usedPrimary": primary,
            "protectionLevel": "SOFTWARE",
        }


def _given(body: dict[str, str], name: str) -> bytes:
    """A field's bytes, compared with its checksum if there is one. Raises Invalid."""
    try:
        data = base64.b64decode(str(body.get(name, "")), validate=True)
    except binascii.Error as error:
        raise Invalid(f"Invalid value at '{name}' (TYPE_BYTES), Base64 decoding failed") from error
    if len(data) > LARGEST:
        raise Invalid(f"{name} is too long")
    checksum = body.get(f"{name}Crc32c")
    if checksum is not None and str(checksum) != str(google_crc32c.value(data)):
        raise Invalid(f"The checksum in field {name}_crc32c did not match the data in field {name}.")
    return data


async def serve(layout: Layout) -> None:
    """Answer until asked to stop."""
    made = web.Application()
    route = "/v1/{name:projects/[^:]+}:{method:encrypt|decrypt}"
    made.router.add_post(route, bearer(Issuer(layout.root), Api(Keeper(layout.root)).call))
    async with http(made, layout.ports["kms"]):
        await stopped()


def main() -> None:
    """Read the arguments and serve."""
    asyncio.run(serve(arguments(__doc__ or "").parse_args().layout))


if __name__ == "__main__":
    main()
