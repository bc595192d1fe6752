"""The public keys of another issuer (RFC 7517): fetched from a configured address, never from one in a token."""

from typing import Any

from common.fetching import Kept, Unreachable, fetch_object

MAX_KEYS = 100
RSA_BITS = 2048
KINDS = {"RS256": "RSA", "ES256": "EC"}


class KeySet:
    """The keys behind a JWKS address. An unknown key id asks for them anew, once a minute at most."""

    def __init__(self, url: str) -> None:
        self._kept = Kept(lambda: _usable(fetch_object(url)))

    def key(self, header: dict[str, Any], algorithms: tuple[str, ...]) -> tuple[Any, str]:
        """The key of a token's header, and its algorithm. Raises jwt.InvalidTokenError, Unreachable."""
        import jwt  # noqa: PLC0415 - 30 ms of cryptography, which most requests do without

        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in algorithms:
            raise jwt.InvalidAlgorithmError("an algorithm that is not accepted here")
        for anew in (False, True):
            found = _matching(self._kept.get(anew=anew), str(algorithm), kid)
            if found is not None:
                return found, str(algorithm)
        raise jwt.InvalidKeyError("no such key")


def _usable(document: dict[str, Any]) -> list[dict[str, Any]]:
    keys = document.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise Unreachable("not a key set")
    return [key for key in keys if isinstance(key, dict) and key.get("kty") in KINDS.values() and "d" not in key]


def _matching(keys: list[dict[str, Any]], algorithm: str, kid: object) -> Any:
    """The one key for the algorithm and key id; a token without a key id only fits a set with a single such key."""
    import jwt  # noqa: PLC0415 - 30 ms of cryptography, which most requests do without

    fitting = [
        key
        for key in keys
        if key["kty"] == KINDS[algorithm]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (kid is None or key.get("kid") == kid)
    ]
    if len(fitting) != 1:
        return None
    try:
        public = jwt.PyJWK(fitting[0], algorithm=algorithm).key
    except jwt.PyJWTError:
        return None
    too_short = algorithm == "RS256" and public.key_size < RSA_BITS
    wrong_curve = algorithm == "ES256" and public.curve.name != "secp256r1"
    return None if too_short or wrong_curve else public
