"""What a person does to her account is told in each of her organizations, since each of them trusts it."""

from typing import Any

from common import errors, log
from common.db import database
from common.http import Call
from common.tokens import Claim


def others(call: Call, action: str, account_id: str, organizations: list[str], **data: Any) -> None:
    """Record the event in these organizations too, a transaction for each: a chain belongs to one organization.

    A membership that has ended since has no chain any more.
    """
    for tenant_id in organizations:
        try:
            with database().transaction(Claim("u", tenant_id, account_id)) as tx:
                call.audit(action, account_id, tx=tx, **data)
        except errors.Problem as problem:
            if problem.status >= errors.CODES["internal_error"][0]:
                raise
            log.entry("NOTICE", "a membership is gone that was to be told")
