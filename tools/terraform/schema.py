"""The schema of the providers: which types, attributes and blocks exist.

{provider: {"version": text, "config": Block, "resource" | "data" | "ephemeral": {type: Block}}}, where a Block is
{"a": {attribute: [flags, type]}, "b": {block: [nesting, least, most, Block]}}: flags of r(equired), o(ptional) and
c(omputed), types as Terraform writes them in JSON. README.md tells where it comes from.
"""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

Block = dict[str, Any]
Schema = dict[str, dict[str, Any]]
FILE = Path(__file__).parent / "schema.json.gz"


@cache
def load() -> Schema:
    """The whole schema (50 ms); nobody may change it."""
    schema: Schema = json.loads(gzip.decompress(FILE.read_bytes()))
    return schema
