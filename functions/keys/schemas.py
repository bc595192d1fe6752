"""Keys: what goes out."""

from marshmallow import fields

from common.schemas import Schema


class Rotation(Schema):
    """What was done to each secret, by its id: ids of keys and numbers of versions, never a key."""

    done = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        required=True,
        metadata={"example": {"jwt-keyring": ["added 5f0c1a77e2b94d36"]}},
    )
