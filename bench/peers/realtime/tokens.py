"""What the realtime peers share: the token check and the name of a session's channel."""

import os

import jwt

SECRET = os.environ["JWT_SECRET"]
REDIS_URL = os.environ["REDIS_URL"]


def channel(authorization: str, session: str) -> str | None:
    """The pub/sub channel that the bearer may follow, or None."""
    scheme, _, token = authorization.partition(" ")
    try:
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["exp", "sub"]})
        return f"t.{claims['tenant_id']}.{session}" if scheme.lower() == "bearer" else None
    except (jwt.InvalidTokenError, KeyError):
        return None
