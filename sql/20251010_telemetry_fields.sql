-- Why: the live figures that a sender reports have no place in the hub's tables, nor has the time it was last heard.
-- Columns that are there already, also of a wider type, are left as they are. last_telemetry_at is the hub's time, UTC.

ALTER TABLE backup_jobs
  ADD COLUMN IF NOT EXISTS current_phase VARCHAR(50) DEFAULT 'pending',
  ADD COLUMN IF NOT EXISTS transfer_speed_bps BIGINT DEFAULT 0,
  ADD COLUMN IF NOT EXISTS eta_seconds INT DEFAULT 0,
  ADD COLUMN IF NOT EXISTS progress_percent DECIMAL(5,2) DEFAULT 0.0,
  ADD COLUMN IF NOT EXISTS last_telemetry_at DATETIME NULL;

ALTER TABLE backup_disks
  ADD COLUMN IF NOT EXISTS progress_percent DECIMAL(5,2) DEFAULT 0.0;

CREATE INDEX IF NOT EXISTS idx_last_telemetry ON backup_jobs (status, last_telemetry_at);
