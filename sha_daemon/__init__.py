"""The hub: receives telemetry over HTTP, commits it to MariaDB, and notices the silent.

Data flows one way: `http_api` -> `ingest` -> `transitions` (pure) -> `database` -> MariaDB.
`watchdog` stands beside it.
"""
