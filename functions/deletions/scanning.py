"""The search outside of the database: objects in storage, and the logs, for what was the person's."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from common import cloud_logs, errors, jobs, log, phones, storage
from common.db import database
from functions.deletions import proof_queries as queries
from functions.deletions.plan import LOG_DAYS

SHORTEST = 5  # characters
TELLING = re.compile(r"@|^\+\d|\S\s+\S")  # an address, a phone number, a name of two words


@dataclass(frozen=True)
class Found:
    """How many places were searched, and how many objects and log entries still hold something."""

    places: int
    hits: int


def outside(job_id: str) -> Found:
    """Search storage and logs; what the logs hold is counted as retained and reported. Raises 503 without an answer.

    Objects are known by their names: a package of her own, or one of an organization that holds her rows. Packages of
    other people hold of her an opaque id at most (Art. 15(4)), and are theirs.
    """
    with database().transaction(jobs.claim(job_id)) as tx:
        prefixes = [f"exports/{export_id}/" for export_id in queries.select_exports(tx)]
        known = queries.select_identifiers(tx)
    left = sum(len(storage.names(prefix)) for prefix in prefixes)
    if known.scope != "me":  # what an organization asks for says nothing of the platform's logs
        return Found(len(prefixes), left)
    wanted = texts([*known.texts, *_unsealed(known)])
    if not wanted:
        return Found(len(prefixes), left)
    return Found(len(prefixes) + 1, left + _logged(job_id, wanted))


def numbers(job_id: str) -> list[str]:
    """The person's phone numbers, to look for. Raises kms.Unavailable."""
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        known = queries.select_identifiers(tx)
    return _unsealed(known)


def _unsealed(known: queries.Identifiers) -> list[str]:
    """Outside of any transaction: Cloud KMS may have to be asked."""
    opened = [phones.read(each, known.subject_id) for each in known.sealed]
    return [number for number in opened if number]


def texts(identifiers: list[str]) -> list[str]:
    """What to look for in the logs, as it is and as in a URL; not a single word, which means nobody in particular."""
    told = [text for text in identifiers if TELLING.search(text) and len(text) >= SHORTEST]
    return list(dict.fromkeys(form for text in told for form in (text, quote(text, safe=""))))


def _logged(job_id: str, wanted: list[str]) -> int:
    try:
        hits = cloud_logs.search(wanted, datetime.now(UTC) - timedelta(days=LOG_DAYS))
    except cloud_logs.Unsearchable as error:
        raise errors.Problem("unavailable", "The logs cannot be searched.", headers={"Retry-After": "5"}) from error
    if hits:
        log.entry("CRITICAL", "the logs hold what identifies an erased person", job_id=job_id, entries=hits)
        with database().transaction(jobs.claim(job_id)) as tx:
            queries.count_logged(tx, hits)
    return hits
