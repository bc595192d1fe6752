"""`retry`: a predicate of our own, its number of retries and its back-off."""

import yaml

from local.workflows.documents import Document
from local.workflows.expressions import Name
from local.workflows.model import Expression, Retry

BACKOFF = ("initial_delay", "max_delay", "multiplier")


def load(document: Document, node: yaml.Node) -> Retry:
    """The policy of a `retry` block. Raises Refused."""
    fields = document.fields(node, "retry", (), ("predicate", "max_retries", "backoff"))
    delays = document.fields(fields["backoff"], "backoff", (), BACKOFF)
    predicate = document.template(fields["predicate"], "predicate")
    if not (isinstance(predicate, Expression) and isinstance(predicate.node, Name)):
        document.refuse(fields["predicate"], "a predicate is the name of a subworkflow, as ${name}")
    initial, longest, multiplier = (document.count(delays[key], key) for key in BACKOFF)
    return Retry(
        predicate=predicate.node.name,
        max_retries=document.count(fields["max_retries"], "max_retries"),
        initial_delay=initial,
        max_delay=longest,
        multiplier=multiplier,
        mark=document.mark(fields["predicate"]),
    )


def delay(retry: Retry, attempt: int) -> int | None:
    """Seconds to wait after failed attempt `attempt` (from 1), or None when the retries are used up."""
    if attempt > retry.max_retries:
        return None
    return min(retry.initial_delay * int(retry.multiplier ** (attempt - 1)), retry.max_delay)
