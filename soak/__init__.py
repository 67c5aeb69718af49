"""What `make soak` runs for hours, and `make test` for seconds: kills, partitions and inputs, with their own ledger."""
