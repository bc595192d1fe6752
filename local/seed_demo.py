"""The account of a new stack: registered through the gateway and finished with the mailed link, as a person would.

Writes `{"email", "password", "organization_id"}` to the standard output, which the supervisor keeps. It may be killed
and started again at any moment: the password is on disk before it is used, and an account that exists is logged in to.
"""

import argparse
import json
import secrets
import sys
from pathlib import Path
from typing import Any

from local import postgres
from local.demo.client import VERIFICATION, Client, Mailbox, TooLate, eventually, fragment
from local.durable import replace
from local.layout import Layout
from migrations.connection import connected

EMAIL = "demo@example.org"
NAME, ORGANIZATION = "Demo Account", "Demo Organization"
MAIL_SECONDS = 60
OK, ACCEPTED = 200, 202
INVOICES = (("DEMO-0001", 62, "paid"), ("DEMO-0002", 31, "paid"), ("DEMO-0003", 1, "open"))  # number, days ago, status
CENTS = 11_900


def password(path: Path) -> str:
    """The account's password: made once, readable by its owner alone."""
    if not path.exists():
        replace(path, secrets.token_urlsafe(18).encode())
    return path.read_text()


def log_in(api: Client, secret: str) -> dict[str, Any] | None:
    """The token answer, or None while there is no such account."""
    answer = api.post("/v1/auth/login", {"email": EMAIL, "password": secret})
    return dict(answer.json()) if answer.status_code == OK else None


def register(api: Client, mailbox: Mailbox, secret: str) -> dict[str, Any]:
    """Register and follow the mailed link. Raises TooLate."""
    seen = {mail["id"] for mail in mailbox.mails()}
    wanted = {"email": EMAIL, "password": secret, "display_name": NAME, "organization_name": ORGANIZATION}
    answer = api.post("/v1/auth/register", wanted)
    if answer.status_code != ACCEPTED:
        raise TooLate(f"the registration was answered {answer.status_code}: {answer.text}")

    def verified() -> dict[str, Any] | None:
        for mail in mailbox.mails():
            for link in VERIFICATION.findall(mail["text"]) if mail["id"] not in seen else ():
                proof = {"token": fragment(link, "token"), "password": secret}
                found = api.post("/v1/auth/email/verify", proof)
                if found.status_code == OK:
                    return dict(found.json())
        return None

    return eventually(verified, MAIL_SECONDS, f"the registration of {EMAIL}")


def write_invoices(layout: Layout, organization_id: str) -> None:
    """Some invoices, as the platform writes them; again is harmless, since a number is written once."""
    with connected(postgres.admin_dsn(layout.path(), layout.ports["postgres"]), postgres.DATABASE) as database:
        for number, days, status in INVOICES:
            database.run(
                "SELECT platform.put_invoice(:id, :number, now() - make_interval(days => :days), :total, 'EUR',"
                " :status)",
                id=organization_id,
                number=number,
                days=days,
                total=CENTS,
                status=status,
            )


def main() -> int:
    """Print the account; the exit code is 1 when there is none."""
    parser = argparse.ArgumentParser(description="The demo account")
    parser.add_argument("--layout", required=True, help="path of layout.json")
    layout = Layout.load(parser.parse_args().layout)
    secret = password(layout.path("demo.password"))
    api, mailbox = Client(layout.url("gateway")), Mailbox(layout.url("mail"), EMAIL)
    try:
        answer = log_in(api, secret) or register(api, mailbox, secret)
    except TooLate as error:
        sys.stderr.write(f"{error}\n")
        return 1
    write_invoices(layout, answer["organization"]["id"])
    account = {"email": EMAIL, "password": secret, "organization_id": answer["organization"]["id"]}
    sys.stdout.write(json.dumps(account) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
