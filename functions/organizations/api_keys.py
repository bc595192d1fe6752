"""API keys: an organization's programs call with them, as far as their maker may go."""

import json

from common import apikeys, errors
from common.http import Call, Json, Table
from functions.organizations import api_keys_queries as queries
from functions.organizations.api_keys_schemas import ApiKeyFilter, ApiKeyPage, MadeApiKey, NewApiKey

part = Table()


@part.on("GET", "/v1/api-keys", needs="apikey.manage", query=ApiKeyFilter, body=None, answers=ApiKeyPage, records=True)
def list_api_keys(call: Call) -> Json:
    """List the API keys of the caller's organization, newest first."""
    items, last = queries.list_api_keys(call.tx, limit=call.query["limit"], after=call.after())
    call.audit("api_key.read")
    return call.page(items, last)


@part.on(
    "POST", "/v1/api-keys", needs="apikey.manage", body=NewApiKey, answers=MadeApiKey, status=201, step_up=True,
    secret=True,
)  # fmt: skip
def create_api_key(call: Call) -> Json:
    """Make an API key. It is shown this once; it may do what it is given and what its maker still may."""
    wanted = call.body["permissions"]
    known = queries.select_codes(call.tx)
    if unknown := [code for code in wanted if code not in known]:
        raise errors.invalid({"permissions": [f"There is no permission {code}." for code in unknown]})
    if lacking := [code for code in wanted if code not in call.caller.permissions]:
        raise errors.Problem("permission_denied", f"Nobody gives what they lack: {', '.join(lacking)}.")
    key, prefix = apikeys.new_key()
    made = queries.insert_api_key(call.tx, prefix=prefix, key_hash=apikeys.key_hash(key), **call.body)
    call.audit("api_key.created", made.id, permissions=wanted)
    call.headers["Location"] = f"/v1/api-keys/{made.id}"
    call.headers["ETag"] = f'"{made.version}"'
    return {**json.loads(made.json), "key": key}


@part.on(
    "DELETE", "/v1/api-keys/<uuid:key_id>", needs="apikey.manage", body=None, answers=None, status=204, step_up=True
)
def delete_api_key(call: Call) -> None:
    """Delete an API key of the organization, whoever made it: the next call with it is refused."""
    queries.delete_api_key(call.tx, call.path["key_id"], call.if_match)
    call.audit("api_key.deleted", call.path["key_id"])
