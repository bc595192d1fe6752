"""The restore drill: a database is lost, comes back to a named moment, and forgets again whom it had forgotten."""
