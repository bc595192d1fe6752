"""A processor says that it has erased too (Art. 19 GDPR): its signature is the only authentication, and enough."""

from common import access, errors, webhooks
from common.http import Call, Json, Table
from functions.deletions import proof_queries as queries
from functions.deletions.proof_schemas import Acknowledged, Acknowledgement

part = Table()


@part.on(
    "POST", "/v1/deletions/<uuid:deletion_id>/acknowledgements", needs=access.PUBLIC, body=Acknowledgement,
    answers=Acknowledged, errors=("signature_invalid",),
)  # fmt: skip
def acknowledge_deletion(call: Call) -> Json:
    """Acknowledge, as a processor that was told, that the person's data are erased there too.

    Signed as [Standard Webhooks](https://www.standardwebhooks.com) has it, with the secret that signs the messages to
    the processor: `webhook-id`, `webhook-timestamp` (at most 5 minutes old) and `webhook-signature`. Saying it again
    changes nothing.
    """
    deletion_id = call.path["deletion_id"]
    headers = {name: call.request.headers.get(name, "") for name in webhooks.HEADERS}
    try:
        processor = webhooks.sender(headers, call.raw or b"")
    except webhooks.Unsigned as error:
        raise errors.Problem("signature_invalid") from error
    if str(call.body["data"]["deletion_id"]) != deletion_id:  # the signature covers the body, not the address
        raise errors.not_found()
    acknowledged_at = queries.acknowledge_deletion(deletion_id, processor.name, call.request_id)
    if acknowledged_at is None:
        raise errors.not_found()
    return {"name": processor.name, "acknowledged_at": acknowledged_at}
