"""What the demo, the tests and the benchmarks stand on: a private MariaDB server, and the database's in-memory twin."""
