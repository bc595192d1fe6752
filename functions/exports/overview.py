"""index.html of a package: what is in it, readable by a person; everything escaped, no script, nothing loaded."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any

from common.register import Table, register

STYLE = """
body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;padding:0 1rem;max-width:72rem}
div{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem}
th,td{border:1px solid #bbb;padding:.2em .5em;text-align:left;vertical-align:top;white-space:pre-wrap}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass
class Shown:
    """A table on the page: how many rows the package has, and the first of them."""

    table: Table
    rows: int
    first: list[dict[str, Any]] = field(default_factory=list)


def page(request: dict[str, Any], tables: dict[str, Shown], moment: datetime) -> str:
    """The page."""
    organizations = ", ".join(escape(entry["name"]) for entry in request["organizations"]) or "none"
    rights = "".join(f"<li>{escape(right)}</li>" for right in register().rights)
    contents = "".join(
        f'<li><a href="#{escape(shown.table.relation)}">{escape(shown.table.relation)}</a>: {shown.rows}</li>'
        for shown in tables.values()
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        f"<title>A copy of your data</title>\n<style>{STYLE}</style>\n<h1>A copy of your data</h1>\n"
        f"<p>Asked for on {escape(request['requested_at'])}, made on {moment:%Y-%m-%d %H:%M} UTC. "
        f"Your id is {escape(request['subject_user_id'])}; other people appear as ids only. "
        f"Organizations: {organizations}.</p>\n"
        f"<p>The complete data stands in the folder data, its form in schema, why and how long we keep it in "
        f'<a href="processing.json">processing.json</a>, the check sums in <a href="manifest.json">manifest.json</a>.'
        f"</p>\n"
        f"<h2>Contents</h2>\n<ul>{contents}</ul>\n"
        + "".join(_section(shown) for shown in tables.values())
        + f"<h2>Your rights</h2>\n<ul>{rights}</ul>\n</html>\n"
    )


def _section(shown: Shown) -> str:
    table = shown.table
    more = f"<p>The first {len(shown.first)} of {shown.rows}.</p>\n" if len(shown.first) < shown.rows else ""
    return (
        f'<h2 id="{escape(table.relation)}">{escape(table.relation)}</h2>\n'
        f"<p>{escape(table.purpose)}. Kept: {escape(table.retention.text)} ({escape(table.retention.ground)}). "
        f'<a href="data/{escape(table.relation)}.json">All {shown.rows}</a></p>\n{more}{_rows(shown)}'
    )


def _rows(shown: Shown) -> str:
    if not shown.first:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in shown.table.exported)
    body = "".join(
        "<tr>" + "".join(f'<td dir="auto">{_cell(row[name])}</td>' for name in shown.table.exported) + "</tr>\n"
        for row in shown.first
    )
    return f"<div><table>\n<tr>{head}</tr>\n{body}</table></div>\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
