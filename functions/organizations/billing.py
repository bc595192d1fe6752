"""Billing: the address that invoices go to, and the invoices, which the platform writes."""

from common.http import Call, Json, Table
from functions.organizations import billing_queries as queries
from functions.organizations.billing_schemas import Billing, BillingChange, InvoiceFilter, InvoicePage

part = Table()


@part.on("GET", "/v1/billing", needs="billing.view", body=None, answers=Billing, records=True)
def get_billing(call: Call) -> Json:
    """Read the organization's billing address."""
    billing = queries.select_billing(call.tx)
    call.audit("billing.read", billing.id)
    return billing


@part.on("PATCH", "/v1/billing", needs="billing.edit", body=BillingChange, answers=Billing)
def change_billing(call: Call) -> Json:
    """Change some fields of the organization's billing address; later invoices carry it."""
    billing = queries.update_billing(call.tx, call.if_match, call.body)
    call.audit("billing.updated", billing.id, fields=sorted(call.body))
    return billing


@part.on("GET", "/v1/invoices", needs="billing.view", query=InvoiceFilter, body=None, answers=InvoicePage, single=True)
def list_invoices(call: Call) -> Json:
    """List the organization's invoices, newest first."""
    query = call.query
    items, last = queries.list_invoices(call.tx, limit=query["limit"], after=call.after(), status=query["status"])
    return call.page(items, last)
