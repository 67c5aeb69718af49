"""A hub that has been in service, before and after its migrations."""

from pathlib import Path

from sha_daemon import migrations
from sha_daemon.config import DatabaseSettings
from sha_daemon.mariadb import Link, connect

LIVE_HUB = Path(__file__).parent.parent / "fixtures" / "live_hub.sql"
ALL = migrations.known()
ZERO_REPAIRED = "finished jobs left at 0 bytes, repaired from their disks"


class Hub:
    """One database, as its administrator sees it."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self.settings = settings
        self.name = settings.name
        self.link: Link = connect(settings, daemon=False)
        self.link.execute(f"USE `{settings.name}`")
        self.link.execute("SET SESSION time_zone = '+00:00'")

    def run(self, script: str) -> None:
        for statement in migrations.parse(script):
            self.link.execute(statement.text)

    def migrate(self) -> dict[str, int]:
        """All counts of what was applied."""
        applied = migrations.apply(self.link, self.name, ALL)
        return dict(count for migration in applied for count in migration.counts)

    def job(self, job_id: str, columns: str) -> tuple[object, ...]:
        return tuple(self.link.rows(f"SELECT {columns} FROM backup_jobs WHERE BINARY id = %s", job_id)[0])

    def shape(self) -> list[tuple[object, ...]]:
        """Every column and index, comparable between hubs."""
        columns = "SELECT table_name, column_name, column_type, is_nullable, column_default, collation_name"
        indexes = "SELECT table_name, index_name, seq_in_index, column_name, non_unique, ''"
        there = "WHERE table_schema = DATABASE()"
        found = self.link.rows(
            f"{columns} FROM information_schema.columns {there}"
            f" UNION ALL {indexes} FROM information_schema.statistics {there} ORDER BY 1, 2, 3"
        )
        return [tuple(row) for row in found]

    def content(self) -> list[tuple[object, ...]]:
        """Every row that a migration reads or writes, and what is recorded of the migrations."""
        return [
            tuple(row)
            for statement in (
                "SELECT * FROM backup_jobs ORDER BY id",
                "SELECT * FROM backup_disks ORDER BY id",
                "SELECT id, listened_us FROM telemetry_listening",
                "SELECT name, outcome FROM telemetry_migrations ORDER BY name",
            )
            for row in self.link.rows(statement)
        ]
