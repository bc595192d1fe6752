"""The audit trail has no gap: each change and each reading of other people's data is an event, and is documented."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import marshmallow
import pg8000.native
import pytest
from marshmallow import fields

from common import access
from common.call import Route
from tests.structure.sources import python_of, read, tree_of
from tests.structure.test_routes import PERMISSIONS, ROUTES

ACTION = re.compile(r"[a-z_]+\.[a-z_]+")
ROW = re.compile(r"^\| `([a-z_.]+)` \| (.+?) \| (.*?) ?\| ([a-z, ]+) \| (.*?) ?\|$", re.MULTILINE)
OUTCOMES = {"success", "denied", "failure"}
WRITERS = {"audit", "record_failure", "audit_failure", "failure", "others", "elsewhere"}
PARAMETERS = {"tx", "outcome", "request_id", "data", "personal", "resource_id", "answer"}  # of those: no part of `data`
IN_SQL = "record_event|append_as|record_deletion|append_audit"
OF_PEOPLE = {
    *("email", "display_name", "name", "title", "description", "phone", "ip", "user_agent", "address", "company"),
    *("vat_id", "note", "text", "password", "token", "subject"),
}
# Fields of answers that show a person, or what somebody wrote about one.
PERSONAL = OF_PEOPLE - {"name", "title", "description", "text", "password", "token"} | {
    *("reason", "extension_reason", "personal", "hint", "subject_user_id", "prefix"),
}

# What writes nothing, and why.
SILENT = {
    "POST /v1/auth/register": "a claim, until the mailbox has answered: neither account nor organization",
    "POST /v1/auth/email/resend": "a mail about a claim",
    "POST /v1/auth/password/forgot": "recorded when the link goes out, so that the answer takes the same time for all",
    "POST /v1/deletions/{}/acknowledgements": "recorded by the database, once",
    "POST /v1/consents/unsubscribe": "recorded by the database, once",
}
# What is recorded elsewhere than in the chain, though people who are known do it, and why.
LOGGED = {
    "POST /v1/sessions/{}/events": "the events of a session are a log of their own, append-only, with author and time",
}
# Internal addresses that change what belongs to an organization are in the list of what records; the rest, and why.
INNER = {
    "/internal/exports/{}/claim": "takes the job for an execution",
    "/internal/exports/{}/plan": "divides the copy",
    "/internal/exports/{}/parts/{}": "makes a part of the copy, which export.completed tells as a whole",
    "/internal/exports/{}/finish": "deletes what the copy was made of",
    "/internal/exports/{}/remove": "deletes what was told as cancelled, deleted, expired or failed",
    "/internal/deletions/{}/claim": "recorded by the database: refused for holds, approved because it is due",
    "/internal/deletions/{}/plan": "checks the register",
    "/internal/deletions/{}/freeze": "the erasure was told when it was asked for",
    "/internal/deletions/{}/revoke": "a part of the erasure",
    "/internal/deletions/{}/objects": "a part of the erasure",
    "/internal/deletions/{}/account": "of the platform: the certificate counts it",
    "/internal/deletions/{}/children": "waits",
    "/internal/deletions/{}/processors": "the certificate tells who was told when",
    "/internal/deletions/{}/scan": "reads what is left; the certificate counts it",
    "/internal/deletions/{}/certificate": "the end of the erasure tells of it",
    "/internal/deletions/{}/notify": "sends the last mail",
    "/internal/deletions/{}/finish": "recorded by the database",
    "/internal/deletions/{}/failed": "recorded by the database",
    "/internal/mails/{}": "of what others have told; that of a new password is recorded by the database",
    "/internal/sms/{}": "factor.code_sent tells that it was asked for",
    "/internal/outbox/drain": "sends what other requests have written and told",
    "/internal/jobs/requeue": "starts jobs anew that were told when they were asked for",
    "/internal/privacy/remind": "sends mails about what is due",
    "/internal/keys/rotate": "recorded by the database, in the platform's chain",
    "/internal/retention/run": "recorded by the database",
    "/internal/alerts": "recorded by the database, in the platform's chain",
    "/internal/blocks/sweep": "recorded by the database, in the platform's chain",
    "/internal/audit/anchor": "alarms alone, in the platform's chain",
}
# Readings that are no event although a field of the answer is called like something personal, and why.
OWN = {
    "/v1/auth/me": "her own",
    "/v1/auth/sessions": "her own",
    "/v1/auth/mfa/factors": "her own",
    "/v1/auth/identities": "her own",
    "/v1/consents/history": "her own",
    "/v1/consents/purposes": "what people are asked, which names nobody",
    "/v1/deletions/{}/status": "by the receipt of the erasure, which its person has",
    "/v1/deletions/certificate-keys": "public keys",
}


def name_of(route: Route) -> str:
    return re.sub(r"<[^>]+>", "{}", route.path)


@cache
def tree_of_function(function: Callable[..., Any]) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def called(function: FunctionType) -> Iterator[tuple[ast.Call, Any]]:
    """Every call in a function, and what of ours it calls, as far as its name tells."""
    for node in ast.walk(tree_of_function(function)):
        if not isinstance(node, ast.Call):
            continue
        found: Any = None
        if isinstance(node.func, ast.Name):
            found = function.__globals__.get(node.func.id)
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            module = function.__globals__.get(node.func.value.id)
            found = getattr(module, node.func.attr, None) if isinstance(module, ModuleType) else None
        yield node, found


def records(function: Any, seen: set[Any]) -> bool:
    """Whether a function, or one of ours that it calls, writes an event."""
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType) or function in seen:
        return False
    if not function.__module__.startswith(("functions.", "sessions.")):
        return False
    seen.add(function)
    for node, found in called(function):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "audit":
            return True
        if found is not None and records(found, seen):
            return True
    return False


def schemas(route: Route) -> list[type[marshmallow.Schema]]:
    more = [schema for _, schema in route.more]
    return [schema for schema in (route.answers, *(route.also or ())[1:], *more) if schema is not None]


def shown(schema: type[marshmallow.Schema] | marshmallow.Schema) -> Iterator[str]:
    """The names of all fields of a schema, and of those within."""
    for name, field in (schema if isinstance(schema, marshmallow.Schema) else schema()).fields.items():
        yield field.data_key or name
        inner = field.inner if isinstance(field, fields.List) else field
        if isinstance(inner, fields.Nested):
            yield from shown(inner.schema)


CHANGING = [route for _, route in ROUTES if route.method != "GET" and not route.internal]
READING = [route for _, route in ROUTES if route.method == "GET" and not route.internal]
STEPS = [route for _, route in ROUTES if route.internal]


@pytest.mark.parametrize("route", CHANGING, ids=lambda route: f"{route.method} {route.path}")
def test_a_change_is_an_event(route: Route) -> None:
    name = f"{route.method} {name_of(route)}"
    silent = name in SILENT or name in LOGGED
    assert records(route.handler, set()) != silent, "record an event, or say in SILENT why there is none"
    assert route.needs == access.PUBLIC or name not in SILENT


@pytest.mark.parametrize("route", STEPS, ids=lambda route: f"{route.method} {route.path}")
def test_what_the_system_does_is_an_event_or_a_part_of_one(route: Route) -> None:
    name = name_of(route)
    assert records(route.handler, set()) or len(INNER.get(name, "")) > 3, "record an event, or say in INNER why not"


@pytest.mark.parametrize("route", READING, ids=lambda route: f"{route.method} {route.path}")
def test_a_reading_of_other_peoples_data_is_an_event(route: Route) -> None:
    personal = {field for schema in schemas(route) for field in shown(schema)} & PERSONAL
    expected = bool(personal) and route.needs != access.PUBLIC and name_of(route) not in OWN
    assert not expected or route.records, f"{personal} of others: records=True, call.audit('<thing>.read'), or OWN"
    assert not route.records or records(route.handler, set())


def test_the_exceptions_are_routes() -> None:
    known = {name_of(route) for route in (*CHANGING, *READING)}
    assert {name.partition(" ")[2] for name in (*SILENT, *LOGGED)} | set(OWN) <= known
    assert set(INNER) - {name_of(route) for route in STEPS} <= {"/internal/audit/anchor"}


def test_the_rules_about_routes_refuse() -> None:
    """What the tests above rest on."""
    by_name = {f"{route.method} {name_of(route)}": route for route in (*CHANGING, *READING)}
    assert records(by_name["POST /v1/projects"].handler, set())
    assert not records(by_name["GET /v1/projects"].handler, set())
    assert {"email", "display_name"} <= set(shown(by_name["GET /v1/members"].answers)) & PERSONAL  # type: ignore[arg-type]
    assert not set(shown(by_name["GET /v1/projects"].answers)) & PERSONAL  # type: ignore[arg-type]


class Events:
    """The events that the source of one module writes: actions, and the fields of their data."""

    def __init__(self, module: ModuleType, tree: ast.Module) -> None:
        self.module = module
        self.found: dict[str, set[str]] = {}
        self.unread: list[str] = []
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                self._take(function)

    def _take(self, function: ast.FunctionDef) -> None:
        given = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in WRITERS or (name == "failure" and ast.unparse(node.func) != "telling.failure"):
                continue
            arguments = [
                argument for argument in node.args if not (isinstance(argument, ast.Name) and argument.id in given)
            ]
            actions = {
                found for argument in arguments for found in self._texts(argument, function) if ACTION.fullmatch(found)
            }
            passed_on = any(isinstance(argument, ast.Name) and argument.id == "action" for argument in node.args)
            if not actions and not passed_on:
                self.unread.append(ast.unparse(node))
            for action in actions:
                self.found.setdefault(action, set()).update(self._data(node, name, function))

    def _texts(self, node: ast.expr, function: ast.FunctionDef) -> set[str]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return {node.value}
        if isinstance(node, ast.IfExp):
            return self._texts(node.body, function) | self._texts(node.orelse, function)
        if isinstance(node, ast.Name):
            local = [each.value for each in ast.walk(function) if isinstance(each, ast.Assign)
                     and ast.unparse(each.targets[0]) == node.id]  # fmt: skip
            if local:
                return {text for value in local for text in self._texts(value, function)}
            known = getattr(self.module, node.id, None)
            return {known} if isinstance(known, str) else set()
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            known = getattr(getattr(self.module, node.value.id, None), node.attr, None)
            return {known} if isinstance(known, str) else set()
        return set()

    def _data(self, node: ast.Call, name: str, function: ast.FunctionDef) -> set[str]:
        keys = {keyword.arg for keyword in node.keywords if keyword.arg} - PARAMETERS
        given = [keyword.value for keyword in node.keywords if keyword.arg in {None, "data"}]
        for value in given:
            dicts = [value] if isinstance(value, ast.Dict) else [
                each.value for each in ast.walk(function) if isinstance(each, ast.Assign)
                and ast.unparse(each.targets[0]) == ast.unparse(value)]  # fmt: skip
            keys |= {key.value for each in dicts if isinstance(each, ast.Dict) for key in each.keys if key}  # type: ignore[attr-defined]
        return keys | ({"method"} if name in {"record_failure", "audit_failure"} else set())


def in_python() -> tuple[dict[str, set[str]], list[str]]:
    """Every action that the product's Python writes with the fields of its data; and calls whose action is not told."""
    found: dict[str, set[str]] = {}
    unread: list[str] = []
    for path in python_of("functions", "common", "sessions"):
        module = importlib.import_module(".".join(path.with_suffix("").parts))
        events = Events(module, tree_of(path))
        unread += [f"{path}: {line}" for line in events.unread if not str(path).startswith("common")]
        for action, keys in events.found.items():
            found.setdefault(action, set()).update(keys)
    return found, unread


def in_database(admin: pg8000.native.Connection) -> set[str]:
    """Every action that a function of the database writes."""
    bodies = admin.run("SELECT prosrc FROM pg_proc WHERE prosrc ~ :writers", writers=IN_SQL)
    found = {text for (body,) in bodies for text in re.findall(r"'([a-z_]+\.[a-z_]+)'", body)}
    return {text for text in found - PERMISSIONS if not text.startswith(("app.", "platform.", "identity."))}


def by_operators() -> set[str]:
    """Every text of the operator's command that could be an action."""
    trees = [tree_of(path) for path in python_of("migrations")]
    texts = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {text for text in texts if isinstance(text, str) and ACTION.fullmatch(text)}


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """Action → outcomes and fields of data, as docs/audit-events.md has them."""
    rows = ROW.findall(read("docs/audit-events.md"))
    return {
        action: (set(outcome.split(", ")), set(re.findall(r"`([a-z_]+)`", data)))
        for action, _, _, outcome, data in rows
    }


def test_each_event_is_documented_and_each_documented_one_exists(admin: pg8000.native.Connection) -> None:
    written = set(in_python()[0]) | in_database(admin) | {"access.denied"}
    assert sorted(written - set(documented())) == [], "enter them into docs/audit-events.md"
    assert sorted(set(documented()) - written - by_operators()) == [], "nothing writes them any more"


def test_an_action_is_told_where_it_is_written() -> None:
    assert in_python()[1] == []


def test_the_page_is_in_order() -> None:
    rows = ROW.findall(read("docs/audit-events.md"))
    actions = [action for action, *_ in rows]
    assert len(rows) == len(re.findall(r"^\| `", read("docs/audit-events.md"), re.MULTILINE))
    assert actions == sorted(set(actions))
    assert [action for action in actions if not ACTION.fullmatch(action)] == []
    assert [action for action, (outcomes, _) in documented().items() if not outcomes <= OUTCOMES] == []
    assert [action for action, when, *_ in rows if len(when) < 10] == []


def test_data_holds_what_the_page_says_and_nothing_personal() -> None:
    page = documented()
    found, _ = in_python()
    assert {
        action: keys - page[action][1] for action, keys in found.items() if action in page and keys - page[action][1]
    } == {}
    assert {action: keys & OF_PEOPLE for action, (_, keys) in page.items() if keys & OF_PEOPLE} == {}


def test_the_rule_about_actions_refuses() -> None:
    source = "def f(call, x):\n    call.audit('thing.done', x, email=x)\n    call.audit(f'{x}.done')\n"
    events = Events(ModuleType("m"), ast.parse(source))
    assert (events.found, len(events.unread)) == ({"thing.done": {"email"}}, 1)
