-- Why: an overtaken message must not undo a newer one (telemetry_seq), silence must be counted in time that was listened
-- to (telemetry_heard_us), the living but quiet must be told from the dead (telemetry_idle_seconds), and a verdict of the
-- watchdog must be recognisable to be taken back (watchdog_*). A disk's size is what its own bar is drawn from.

ALTER TABLE backup_jobs
  ADD COLUMN IF NOT EXISTS telemetry_seq BIGINT NULL,
  ADD COLUMN IF NOT EXISTS telemetry_idle_seconds INT NULL,
  ADD COLUMN IF NOT EXISTS telemetry_heard_us BIGINT NULL,
  ADD COLUMN IF NOT EXISTS watchdog_failed_at DATETIME NULL,
  ADD COLUMN IF NOT EXISTS watchdog_message VARCHAR(255) NULL;

ALTER TABLE backup_disks
  ADD COLUMN IF NOT EXISTS total_bytes BIGINT DEFAULT 0;

-- The watchdog's sweep reads only this index: running jobs, longest silence first.
CREATE INDEX IF NOT EXISTS idx_telemetry_silence ON backup_jobs (status, telemetry_heard_us);
