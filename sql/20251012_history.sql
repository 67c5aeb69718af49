-- Why: charts and questions after the fact need what was reported, at the time it was true, not only the newest figures.
-- A repeated message adds nothing: it is unique by (job_type, job_id, seq). Ids are compared byte by byte, blanks too.

CREATE TABLE IF NOT EXISTS telemetry_history (
  id BIGINT NOT NULL AUTO_INCREMENT,
  job_type VARCHAR(16) NOT NULL DEFAULT 'backup',
  job_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL,
  seq BIGINT NULL,
  at DATETIME(3) NOT NULL,
  status ENUM('pending', 'running', 'completed', 'failed', 'cancelled') NOT NULL,
  current_phase VARCHAR(50) NOT NULL,
  bytes_transferred BIGINT NOT NULL,
  total_bytes BIGINT NOT NULL,
  transfer_speed_bps BIGINT NOT NULL,
  progress_percent DECIMAL(5,2) NOT NULL,
  producer_time VARCHAR(40) NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_job_seq (job_type, job_id, seq),
  KEY idx_job_at (job_type, job_id, at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
