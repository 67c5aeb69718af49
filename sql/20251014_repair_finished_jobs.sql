-- Why: the hub wrote only backup_disks.bytes_transferred, so that its finished jobs show 0 bytes of what their disks sum to.
-- Ids of the two tables are of different collations on appliances; both sides of the join name the one to compare by.

-- count: finished jobs left at 0 bytes, repaired from their disks
UPDATE backup_jobs AS j
  JOIN (SELECT backup_job_id COLLATE utf8mb4_bin AS job_id, SUM(bytes_transferred) AS moved
          FROM backup_disks
         GROUP BY backup_job_id COLLATE utf8mb4_bin
        HAVING moved > 0) AS d
    ON d.job_id = j.id COLLATE utf8mb4_bin
   SET j.bytes_transferred = d.moved, j.progress_percent = 100, j.current_phase = 'completed'
 WHERE j.status = 'completed' AND COALESCE(j.bytes_transferred, 0) = 0;
