"""The clock of a whole database: every moment that it holds is set back, which is as if so much time had passed."""

from typing import Any

import pg8000.native

MOMENTS = """
    SELECT c.oid::regclass::text, string_agg(CASE a.atttypid WHEN 'timestamptz'::regtype
               THEN format('%1$I = %1$I - x.by', a.attname)
               ELSE format('%1$I = ARRAY(SELECT e.at - x.by FROM unnest(%1$I) WITH ORDINALITY AS e (at, i) ORDER BY i)',
                           a.attname) END, ', ')
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('app', 'identity', 'platform') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        AND a.atttypid IN ('timestamptz'::regtype, 'timestamptz[]'::regtype)
        AND c.oid::regclass::text NOT IN ('app.audit_events', 'app.audit_heads')
    GROUP BY 1
"""


PARTITIONED = """
    SELECT c.oid::regclass::text FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
    WHERE p.partdefid = 0 AND NOT c.relispartition
"""


class Clock:
    """Moves a database, as superuser, without its triggers. Chains are hashed: their ageing is their own matter.

    Rows of a partitioned table move into months that nobody has made: a partition for the rest takes them.
    """

    def __init__(self, connection: pg8000.native.Connection) -> None:
        self._connection = connection
        self._tables = connection.run(MOMENTS)
        for (table,) in connection.run(PARTITIONED):
            connection.run(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")

    def pass_(self, seconds: float) -> None:
        """Let so much time pass."""
        moved = [
            f"UPDATE {table} SET {moments} FROM (SELECT make_interval(secs => {seconds:.6f}) AS by) x"
            for table, moments in self._tables
        ]
        self._connection.execute_simple(
            "; ".join(["BEGIN", "SET LOCAL session_replication_role = replica", *moved, "COMMIT"])
        )

    def value(self, sql: str, **values: Any) -> Any:
        """The first column of the first row of a query."""
        return self._connection.run(sql, **values)[0][0]
