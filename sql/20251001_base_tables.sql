-- Why: a hub without the appliance's own tables needs those parts of them that telemetry reads and writes.
-- Names and types are the appliance's; where its tables exist already, nothing here changes them. No foreign key leads to
-- a table that is not made here, and vm_backup_context_id may be NULL because nothing here makes backup contexts.

CREATE TABLE IF NOT EXISTS backup_jobs (
  id VARCHAR(64) NOT NULL,
  vm_backup_context_id VARCHAR(64) NULL DEFAULT NULL,
  vm_name VARCHAR(255) NOT NULL,
  backup_type ENUM('full', 'incremental', 'differential') NOT NULL,
  status ENUM('pending', 'running', 'completed', 'failed', 'cancelled') NOT NULL DEFAULT 'pending',
  bytes_transferred BIGINT DEFAULT 0,
  total_bytes BIGINT DEFAULT 0,
  error_message TEXT NULL,
  created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  started_at TIMESTAMP NULL DEFAULT NULL,
  completed_at TIMESTAMP NULL DEFAULT NULL,
  PRIMARY KEY (id),
  KEY idx_status (status),
  KEY idx_created_at (created_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE IF NOT EXISTS backup_disks (
  id BIGINT NOT NULL AUTO_INCREMENT,
  vm_backup_context_id VARCHAR(64) NULL DEFAULT NULL,
  backup_job_id VARCHAR(64) NOT NULL,
  disk_index INT NOT NULL,
  bytes_transferred BIGINT DEFAULT 0,
  status ENUM('pending', 'running', 'completed', 'failed') DEFAULT 'pending',
  error_message TEXT NULL,
  created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP,
  completed_at TIMESTAMP NULL DEFAULT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_job_disk (backup_job_id, disk_index),
  CONSTRAINT fk_backup_disks_job FOREIGN KEY (backup_job_id) REFERENCES backup_jobs (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;
