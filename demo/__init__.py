"""make demo: real backups, seen live on the hub, with every claim checked."""
