-- Why: a chart of a long job must look at every sample's speed, status and phase, half a million for a month. With these
-- in the index of the job's samples no row is read for it: they lie scattered among those of all other jobs. The index
-- takes the place of a narrower one of this project's own. Samples can be added while it is built.

ALTER TABLE telemetry_history
  ADD INDEX IF NOT EXISTS idx_job_chart (job_type, job_id, at, id, transfer_speed_bps, status, current_phase),
  DROP INDEX IF EXISTS idx_job_at;
