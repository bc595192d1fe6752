"""index.html of a package: what is in it, readable by a person; everything escaped, no script, nothing loaded."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any

from common import privacy
from common.register import Table, register

STYLE = """
:root{color-scheme:light dark}
body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;padding:0 1rem;max-width:72rem}
.rows{overflow-x:auto}table{border-collapse:collapse;font-size:.875rem;margin:.5rem 0}
caption{text-align:start;font-style:italic;padding:.2em 0}
th,td{border:1px solid #888;padding:.25em .6em;text-align:start;vertical-align:top}
td{white-space:pre-wrap;overflow-wrap:anywhere;min-width:4em;max-width:32em;unicode-bidi:isolate}
td.number{text-align:end}dt{font-weight:600}dd{margin:0 0 .5rem}section{border-top:1px solid #888;margin-top:2rem}
.skip{position:absolute;left:-999rem}.skip:focus{position:static}
@media print{body{font-size:9pt;margin:0;max-width:none}.rows{overflow:visible}table{font-size:7pt}
thead{display:table-header-group}tr{break-inside:avoid}h2,h3,caption{break-after:avoid}a{color:inherit}}
"""
OURS = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{OURS}'"
ORIGIN = {
    "provided": "provided by you",
    "observed": "observed while you used the service",
    "derived": "derived by the service",
}


@dataclass
class Shown:
    """A table on the page: its file, how many rows that has, and the first of them, a value for each column."""

    table: Table
    path: str
    rows: int
    columns: tuple[str, ...]
    first: list[list[Any]] = field(default_factory=list)


def page(request: dict[str, Any], tables: list[Shown], moment: datetime) -> str:
    """The page."""
    title = "A copy of the organization's data" if request["scope"] == "organization" else "A copy of your data"
    filled = [shown for shown in tables if shown.rows]
    rights = "".join(f"<li>{escape(right)}</li>\n" for right in register().rights)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#contents">To the contents</a>\n<header>\n<h1>{title}</h1>\n'
        f"{_facts(request, moment)}</header>\n<main>\n{_contents(tables)}"
        + "".join(_section(shown) for shown in filled)
        + f'<section id="rights">\n<h2>Your rights</h2>\n<ul>\n{rights}</ul>\n</section>\n</main>\n</body>\n</html>\n'
    )


def _facts(request: dict[str, Any], moment: datetime) -> str:
    whose = request["subject_user_id"]
    facts = {
        "Asked for": request["requested_at"],
        "Made": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "Request": request["id"],
        **({"About the person with the id": whose} if whose else {}),
        "Organizations": ", ".join(entry["name"] for entry in request["organizations"]) or "none",
        "Other people": "appear as ids only",
    }
    listed = "".join(f"<dt>{escape(name)}</dt><dd dir='auto'>{escape(text)}</dd>\n" for name, text in facts.items())
    return (
        f"<dl>\n{listed}</dl>\n<p>The complete data stands in the folder <code>data</code>, its form in "
        '<code>schema</code>; why we have it, who receives it and how long we keep it in <a href="processing.json">'
        'processing.json</a>; the check sums in <a href="manifest.json">manifest.json</a>. Below are the first rows of '
        "each file.</p>\n"
    )


def _contents(tables: list[Shown]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_link(shown)}</th><td class="number">{shown.rows}</td>'
        f'<td><a href="{escape(shown.path)}">{escape(shown.path)}</a></td>'
        f'<td><a href="schema/{escape(shown.table.relation)}.json">form</a></td>'
        f"<td>{ORIGIN[shown.table.source]}</td><td>{escape(shown.table.purpose)}</td></tr>\n"
        for shown in tables
    )
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("Data", "Rows", "File", "Form", "Origin", "Purpose"))
    return (
        '<nav id="contents" aria-labelledby="contents-title">\n<h2 id="contents-title">Contents</h2>\n'
        f'<div class="rows"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n</nav>\n'
    )


def _name(shown: Shown) -> str:
    return escape(shown.table.relation.replace("_", " ").capitalize())


def _link(shown: Shown) -> str:
    return f'<a href="#{escape(shown.table.relation)}">{_name(shown)}</a>' if shown.rows else _name(shown)


def _section(shown: Shown) -> str:
    table = shown.table
    told = f"The first {len(shown.first)} of {shown.rows} rows" if len(shown.first) < shown.rows else "All rows"
    return (
        f'<section id="{escape(table.relation)}">\n<h2>{_name(shown)}</h2>\n<p>{escape(table.purpose)}. '
        f"Kept: {escape(table.retention.text)} ({escape(table.retention.ground)}). "
        f"{escape(privacy.portability(table))}. "
        f'All of it: <a href="{escape(shown.path)}">{escape(shown.path)}</a>.</p>\n{_rows(shown, told)}</section>\n'
    )


def _rows(shown: Shown, told: str) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in shown.columns)
    body = "".join(
        "<tr>" + "".join(f'<td dir="auto">{_cell(value)}</td>' for value in row) + "</tr>\n" for row in shown.first
    )
    named = f'role="region" tabindex="0" aria-label="{_name(shown)}"'
    return (
        f'<div class="rows" {named}><table>\n<caption>{told}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
