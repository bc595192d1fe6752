"""What RESULTS.md holds: its words, and the tables of each section."""

from bench.verdicts import CPU, DJANGO

SERVED = ("list", "get", "create")
NAMES = {
    "server_cpu": "server CPU",
    "postgres_cpu": "PostgreSQL CPU",
    "valkey_cpu": "Valkey CPU",
    "rps": "per second",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "pss": "PSS MiB",
    "peak_rss": "peak RSS MiB",
    "busiest": "busiest process",
    "bad": "bad",
    "seconds": "s",
    "cpu": "CPU s",
    "records_per_s": "records/s",
    "peak_mib": "peak MiB",
    "peak_exports-jobs": "peak MiB of exports-jobs",
    "peak_deletions-jobs": "peak MiB of deletions-jobs",
    "mib": "MiB written",
    "longest_lock_s": "longest lock s",
    "slowest_write_s": "slowest other write s",
    "writes": "other writes",
    "transaction": "transaction µs",
    "answered": "answered 200",
    "refused": "refused 401",
    "asked": "asked",
    "streams": "streams",
    "kib_per_stream": "KiB each",
    "delivered_share": "delivered",
    "server_us": "server CPU µs a delivery",
    "postgres_us": "PostgreSQL CPU µs a delivery",
    "client_cpu": "client CPU",
}
FAULTS = ("bad", "refused")  # the worst round is shown
LOAD = ("server_cpu", "postgres_cpu", "valkey_cpu", "rps", "p50_ms", "p99_ms", "busiest", "peak_rss", "pss", "bad")
HEAD = """# Results

Written by `make bench` from [results.json](results.json), which has every round. Peers and we stand on one machine, run
at once, and are loaded in turn with the same contents; a ratio is taken round by round: the median, with its
range. **Quote ratios, not absolutes.** What is compared, how to repeat it and what it needs: [README.md](README.md).
"""
SMALL = """
> **Small sizes.** Some of what stands below was run with `--small`, to see that everything works: no verdict counts it,
> and no figure of it may be quoted.
"""


SUITE = "How long `make test` takes is told by the pipeline, not by this page."
PLOTS = {
    "requests.svg": "What a request costs, ours and the peers: server and PostgreSQL",
    "growth-tenants.svg": "What a request costs from ten tenants to a hundred thousand",
    "growth-rows.svg": "What a request costs from ten thousand rows to ten million",
}
SERVING = """## Requests

CPU in seconds per 1,000 requests, which is milliseconds of one. Valkey counts our limits; the peers have none, and its
CPU is in no ratio. `busiest process` says how evenly connections landed on two workers (0.5 is even): latencies and
requests a second depend on that luck, CPU does not. `bad` are answers that were not what they had to be."""
Part = tuple[str, str, tuple[str, ...], str, tuple[str, ...]]
GROWN = ("server_cpu", "postgres_cpu", "valkey_cpu", "p50_ms", "bad")
CHAINED = ("rps", "server_cpu", "postgres_cpu", "p50_ms", "p99_ms")
STREAMED = (
    "streams",
    "kib_per_stream",
    "delivered_share",
    "p50_ms",
    "p99_ms",
    "server_us",
    "postgres_us",
    "client_cpu",
)
DRIVEN = ("rps", "p50_ms", "p99_ms", "server_cpu", "postgres_cpu")
SECTIONS: list[tuple[str, list[Part]]] = [
    (
        "## Log-in and refresh\n\nArgon2id with 19 MiB, two passes and one lane everywhere; alone in two processes at"
        " once, as with two workers. Django's refresh tokens rotate, and used ones are remembered; stateless is"
        " simplejwt's default. Ours remembers a device, writes the trail, and knows a token that was used twice.",
        [
            ("login", "Log-in", LOAD, "argon2 alone", CPU),
            ("refresh", "Rotating refresh", LOAD, DJANGO, CPU),
            ("parallel refresh", "One refresh token, 200 times at once", ("asked", "answered", "refused"), "", CPU),
        ],
    ),
    (
        "## Cold start\n\nFrom the command to the first 200, page cache and byte code warm: of `projects` to its list,"
        " of other functions to `/health/ready`, which asks PostgreSQL and Valkey. Ours and"
        " the bare function are one process; the peers start the two workers that they serve by, which `cpu`,"
        " `peak_rss` and `pss` hold.",
        [
            (
                "cold start",
                "Each function, and the peers",
                ("seconds", "cpu", "peak_rss", "pss"),
                "ff_hello",
                ("seconds",),
            )
        ],
    ),
    (
        "## Isolation\n\nOne connection, reads in turn: reset, BEGIN, the signed context, the query under row-level"
        " security and COMMIT in one flight, as every read of one statement; and the same flight without context, by a"
        " role that no policy holds for.",
        [
            ("isolation list", "List 50", ("transaction",), "without", ("transaction",)),
            ("isolation get", "Get one", ("transaction",), "without", ("transaction",)),
        ],
    ),
    (
        "## Growth\n\nEvery size is a database of its own, all loaded in turn; each answer of a list has ten items.",
        [
            (f"growth {what} {operation}", f"{operation}, by {what}", GROWN, "", CPU)
            for what in ("tenants", "rows")
            for operation in SERVED
        ],
    ),
    (
        "## Exports\n\nOurs is the whole way from the request to `ready`: every process of the local stack, rows in the"
        " order of their keys, checksums of every file. COPY reads the same rows; the peers read as many records of"
        " their own, and `copy_zip` is COPY of those.",
        [
            (
                "export",
                "One subject or organization",
                ("seconds", "records_per_s", "cpu", "postgres_cpu", "peak_mib", "mib"),
                "COPY into ZIP",
                ("seconds",),
            ),
            (
                "export memory",
                "From few rows to many",
                ("seconds", "records_per_s", "cpu", "postgres_cpu", "peak_exports-jobs", "mib"),
                "",
                CPU,
            ),
        ],
    ),
    (
        "## Erasure\n\nOurs from the request to its certificate; the bare DELETE in as large batches.",
        [
            (
                "erasure",
                "Rows of one person",
                ("seconds", "records_per_s", "cpu", "postgres_cpu", "peak_deletions-jobs"),
                "batched DELETE",
                ("seconds",),
            ),
            (
                "erasure locks",
                "Beside a colleague who writes all the time",
                ("seconds", "longest_lock_s", "slowest_write_s", "writes", "peak_deletions-jobs"),
                "",
                CPU,
            ),
        ],
    ),
    (
        "## Audit chain\n\n50 writers create projects with their event in the chain, and in turns with the same event"
        " in an equal table without a chain: no head to lock, nothing hashed. Server CPU is that of the writers, over"
        " HTTP that of the function. Why it is so: [the decision](../docs/decisions/0020-chain-before-disk.md).",
        [
            ("audit 1 organization", "One organization", CHAINED, "without chain", ("rps",)),
            ("audit 200 organizations", "200 organizations", CHAINED, "without chain", ("rps",)),
            ("audit http", "One organization, over HTTP", CHAINED, "without chain", ("rps",)),
            (
                "audit history",
                "One writer at a new chain, and at one of a million events",
                CHAINED,
                "new chain",
                ("rps",),
            ),
        ],
    ),
    (
        "## Streams\n\nA process each. Our events are appended through the API: their age holds the request, the"
        " transaction and the disk, and our CPU all of it; a peer's is a PUBLISH. On a busy machine ages favour"
        " whoever needs less CPU.",
        [
            (
                "streams fan-out",
                "One session, 1,000 watchers, 20 events a second",
                STREAMED,
                "aiohttp_sse",
                ("p99_ms",),
            ),
            ("streams held", "5,000 open streams", STREAMED, "aiohttp_sse", ("kib_per_stream",)),
        ],
    ),
    (
        "## Drivers\n\nThe session API is an event loop: pg8000 in threads, as we have it, beside asyncpg, at the same"
        " guarded transactions. `named` prepares the signed context by name, which is weaker. CPU in milliseconds.",
        [
            (f"driver {operation} {clients}", f"{operation}, {clients} at once", DRIVEN, "pg8000", CPU)
            for operation in ("append 1 event", "append 20 events", "read 50 events")
            for clients in (1, 8)
        ],
    ),
]
