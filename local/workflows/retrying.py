"""`retry`: a default policy by name, or a predicate with its own number of retries and back-off."""

from collections.abc import Callable

import yaml

from local.workflows.documents import Document
from local.workflows.expressions import BadExpression, function_name
from local.workflows.library import DEFAULT_BACKOFF, POLICIES, POLICY_MAX_RETRIES, PREDICATES
from local.workflows.model import Const, Expression, Retry, Template
from local.workflows.values import Value, fault, is_number

BACKOFF = ("initial_delay", "max_delay", "multiplier")


def load(document: Document, node: yaml.Node) -> Retry:
    """The policy of a `retry` block. Raises Refused."""
    if isinstance(node, yaml.ScalarNode):
        policy = _named(document, node)
        if policy not in POLICIES:
            document.refuse(node, f"unknown retry policy; known are {', '.join(POLICIES)}")
        backoff = {key: Const(value) for key, value in DEFAULT_BACKOFF.items()}
        return Retry(POLICIES[policy], Const(POLICY_MAX_RETRIES), **backoff, mark=document.mark(node))
    fields = document.fields(node, "retry", (), ("predicate", "max_retries", "backoff"))
    delays = document.fields(fields["backoff"], "backoff", (), BACKOFF)
    predicate = _named(document, fields["predicate"])
    if "." in predicate and predicate not in PREDICATES:
        document.refuse(fields["predicate"], f"unknown predicate; known are {', '.join(PREDICATES)} and subworkflows")
    templates: dict[str, Template] = {key: document.template(delays[key], key) for key in BACKOFF}
    retries = document.template(fields["max_retries"], "max_retries")
    return Retry(predicate, retries, **templates, mark=document.mark(fields["predicate"]))


def _named(document: Document, node: yaml.Node) -> str:
    """The dotted name inside `${…}`."""
    template = document.template(node, "retry")
    try:
        if isinstance(template, Expression):
            return function_name(template.node)
    except BadExpression:
        pass
    document.refuse(node, "this is the name of a policy or predicate, as ${name}")


def delay(retry: Retry, attempt: int, render: Callable[[Template], Value]) -> float | None:
    """Seconds to wait after failed attempt `attempt` (from 1), or None when the retries are used up."""
    retries = render(retry.max_retries)
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise fault("TypeError", "max_retries needs an integer")
    if attempt > retries:
        return None
    initial, longest, multiplier = (render(each) for each in (retry.initial_delay, retry.max_delay, retry.multiplier))
    if not all(is_number(each) for each in (initial, longest, multiplier)):
        raise fault("TypeError", "backoff needs numbers")
    if initial < 0 or longest < 0 or multiplier < 0:
        raise fault("ValueError", "backoff needs numbers that are not negative")
    try:
        return float(min(initial * float(multiplier) ** (attempt - 1), longest))
    except OverflowError:
        return float(longest)
