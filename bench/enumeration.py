"""Whether time tells who has an account: `python -m bench.enumeration`, or with `--stack FILE` against a running one.

Requests about known and unknown addresses in random order, so that whatever else the machine does hits both alike. For
each route: the medians; the probability that a request about a known address takes longer than one about an unknown
address (Mann and Whitney's U over n², 0.5 when nothing can be told) with its 99.9 % interval; and the p of a
permutation test on the differences of neighbours (their signs flipped at random). The exit code is 1 when a route tells
something: p below 0.001, and a probability off 0.5 by more than an attacker could not use (0.05).
"""

import argparse
import json
import math
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from argon2 import PasswordHasher

from bench.alone import connection
from bench.machine import VAR
from bench.stacks import stack

GUESS = "a harbour full of herons"
TRIES = 4  # of an address: the lock falls at five failures
PERMUTATIONS = 2000
SIGNIFICANT, USABLE = 0.001, 0.05
PAUSE = 0.02, 0.05  # seconds between requests
WARM_UP = 5  # pairs
Z = 3.2905  # of 99.9 %, both sides

Request = Callable[[requests.Session, str], requests.Response]


@dataclass(frozen=True)
class Verdict:
    """What a route's times say; medians in milliseconds."""

    route: str
    pairs: int
    known: float
    unknown: float
    longer: float
    interval: float
    p: float

    @property
    def tells(self) -> bool:
        """Whether an attacker learns anything."""
        return self.p < SIGNIFICANT and abs(self.longer - 0.5) > USABLE

    def line(self) -> str:
        """A row of the table."""
        return (
            f"| {self.route:<8} | {self.pairs:>5} | {self.known:>8.2f} | {self.unknown:>10.2f} "
            f"| {self.longer:.3f} ± {self.interval:.3f} | {self.p:.4f} | {'yes' if self.tells else 'no':<5} |"
        )


def longer(known: list[float], unknown: list[float]) -> float:
    """The probability that a value of the first exceeds one of the second; ties count half (Mann and Whitney, 1947)."""
    marked = sorted([(value, 1) for value in known] + [(value, 0) for value in unknown])
    total, start = 0.0, 0
    while start < len(marked):
        end = start
        while end < len(marked) and marked[end][0] == marked[start][0]:
            end += 1
        total += (start + 1 + end) / 2 * sum(mark for _, mark in marked[start:end])
        start = end
    count = len(known)
    return (total - count * (count + 1) / 2) / (count * len(unknown))


def permutation(differences: list[float], chance: random.Random) -> float:
    """How often random signs make the trimmed mean of the differences as large as it is."""
    edge = statistics.quantiles([abs(d) for d in differences], n=20)[-1]
    kept = [max(-edge, min(edge, d)) for d in differences]  # what took long for another reason does not decide
    observed = abs(sum(kept))
    hits = sum(
        abs(sum(d if bit else -d for d, bit in zip(kept, bits, strict=True))) >= observed
        for bits in (chance.choices((0, 1), k=len(kept)) for _ in range(PERMUTATIONS))
    )
    return (hits + 1) / (PERMUTATIONS + 1)


def judge(route: str, pairs: list[tuple[float, float]], chance: random.Random) -> Verdict:
    """The verdict on (known, unknown) durations in seconds."""
    known, unknown = [k * 1000 for k, _ in pairs], [u * 1000 for _, u in pairs]
    count = len(pairs)
    interval = Z * math.sqrt((2 * count + 1) / (12 * count * count))
    return Verdict(
        route,
        count,
        statistics.median(known),
        statistics.median(unknown),
        longer(known, unknown),
        interval,
        permutation([k - u for k, u in pairs], chance),
    )


def accounts(url: str, count: int) -> list[str]:
    """The addresses of new accounts, each with a password and an organization."""
    mark = uuid.uuid4().hex[:8]
    hashed = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1).hash(uuid.uuid4().hex)
    with connection(url) as admin:
        admin.run(
            """
            WITH made AS (
                INSERT INTO identity.accounts (id, email, display_name, password_hash)
                SELECT gen_random_uuid(), 'known-' || :mark || '-' || lpad(n::text, 6, '0') || '@example.com', 'N',
                       :hash
                FROM generate_series(1, CAST(:count AS integer)) AS n RETURNING id
            ), founded AS (
                INSERT INTO app.organizations (tenant_id, slug, name)
                SELECT id, 'o-' || left(id::text, 13), 'O' FROM made RETURNING tenant_id
            )
            INSERT INTO app.members (tenant_id, user_id, role) SELECT tenant_id, tenant_id, 'owner' FROM founded
            """,
            mark=mark,
            hash=hashed,
            count=count,
        )
    return [f"known-{mark}-{n:06}@example.com" for n in range(1, count + 1)]


def routes(base: str) -> dict[str, Request]:
    """What an outsider can ask about an address."""

    def post(path: str, **body: Any) -> Request:
        def ask(client: requests.Session, email: str) -> requests.Response:
            return client.post(f"{base}/v1/auth/{path}", json={"email": email, **body}, timeout=30)

        return ask

    guess = {"password": GUESS}
    names = {"display_name": "Nobody", "organization_name": "Nowhere"}
    return {
        "login": post("login", **guess),
        "forgot": post("password/forgot"),
        "register": post("register", **guess, **names),
        "resend": post("email/resend"),
    }


def measure(ask: Request, known: list[str], pairs: int, chance: random.Random) -> list[tuple[float, float]]:
    """Durations in seconds for known and unknown addresses, in random order: each is as likely to follow the other kind
    as its own, so that what a request leaves behind, such as its mail, hits both alike. Raises SystemExit unless both
    are answered with the same status.
    """
    client = requests.Session()
    client.trust_env = False
    strangers = [f"stran-{uuid.uuid4().hex[:8]}-{n:06}@example.com" for n in range(len(known))]
    addresses = {"known": known, "unknown": strangers}
    found: dict[str, list[float]] = {"known": [], "unknown": []}
    statuses: set[int] = set()
    for name in chance.sample([*addresses] * (pairs + WARM_UP), 2 * (pairs + WARM_UP)):
        time.sleep(chance.uniform(*PAUSE))
        client.cookies.clear()
        email = addresses[name][len(found[name]) % len(known)]
        begun = time.perf_counter()
        answer = ask(client, email)
        found[name].append(time.perf_counter() - begun)
        statuses.add(answer.status_code)
    if len(statuses) != 1:
        raise SystemExit(f"the status tells it: {sorted(statuses)}")
    return list(zip(found["known"], found["unknown"], strict=True))[WARM_UP:]


def run(running: dict[str, Any], pairs: int, wanted: list[str], seed: int) -> int:
    """Measure, print the table; 1 when something can be told."""
    chance = random.Random(seed)
    verdicts = []
    print("| route    | pairs | known ms | unknown ms | known is longer | p      | tells |")
    print("|----------|-------|----------|------------|-----------------|--------|-------|")
    for name, ask in routes(running["api"]).items():
        if name in wanted:
            known = accounts(running["postgres"]["admin"], math.ceil((pairs + WARM_UP) / TRIES))
            verdicts.append(judge(name, measure(ask, known, pairs, chance), chance))
            print(verdicts[-1].line(), flush=True)
    return int(any(verdict.tells for verdict in verdicts))


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", type=Path, help="stack.json of a running stack with high rate limits")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--routes", default="login,forgot,register,resend")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    wanted = arguments.routes.split(",")
    if arguments.stack:
        return run(json.loads(arguments.stack.read_text()), arguments.pairs, wanted, arguments.seed)
    VAR.mkdir(parents=True, exist_ok=True)
    with stack(VAR / "stack") as running:
        return run(running, arguments.pairs, wanted, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
