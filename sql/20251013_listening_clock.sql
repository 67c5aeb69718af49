-- Why: the hub's own outage must not look like everybody's death. Silence is counted on a clock that moves only while a hub
-- listens; its one row is advanced by whoever listens, each second once, however many hubs share the database.

CREATE TABLE IF NOT EXISTS telemetry_listening (
  id TINYINT NOT NULL,
  listened_us BIGINT NOT NULL,
  advanced_at DATETIME(6) NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- Where the row was lost it begins anew above every job's own reading: below, silences would count for nothing for as
-- long as the hub had listened before.
SET @listened = (SELECT COALESCE(MAX(telemetry_heard_us), 0) FROM backup_jobs);
INSERT IGNORE INTO telemetry_listening (id, listened_us, advanced_at) VALUES (1, COALESCE(@listened, 0), UTC_TIMESTAMP(6));

-- Jobs that an older hub has heard are counted as heard now: their silence before this was not listened to.
-- count: running jobs of an older hub, counted as heard now
UPDATE backup_jobs
   SET telemetry_heard_us = (SELECT listened_us FROM telemetry_listening WHERE id = 1)
 WHERE status = 'running' AND last_telemetry_at IS NOT NULL AND telemetry_heard_us IS NULL;
