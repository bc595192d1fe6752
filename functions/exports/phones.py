"""The person's phone numbers in her copy: the database holds them sealed, and the transaction's setting opens them."""

import json

from common import phones
from common.db import Tx

TABLE = "identity.mfa_factors"


def reveal(tx: Tx) -> None:
    """Let `platform.export_mfa_factors()` of this transaction show the numbers. Raises kms.Unavailable."""
    rows = tx.rows("SELECT factor_id, account_id, phone FROM platform.export_sealed_phones()")
    numbers = {str(factor): phones.read(str(sealed), str(account)) for factor, account, sealed in rows}
    tx.rows("SELECT set_config('export.phones', :numbers, true)", numbers=json.dumps(numbers))
