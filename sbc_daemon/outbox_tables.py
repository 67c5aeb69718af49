"""The outbox's tables and statements, each with what it is for. Times are Unix seconds.

STRICT, so that the check at the start also finds a value of the wrong type.
"""

VERSION = 2
"""`PRAGMA user_version` of the tables below. A file of version 1 is given `survivor`, which it lacks, on opening."""

TABLES = """
CREATE TABLE IF NOT EXISTS entry (
    entry_id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL,
    rank INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    taken_wall REAL NOT NULL,
    message BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entry_lane ON entry (job_id, rank, entry_id);
CREATE INDEX IF NOT EXISTS entry_rank ON entry (rank, entry_id);
CREATE TABLE IF NOT EXISTS job (
    job_id TEXT PRIMARY KEY,
    saved INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    snapshot BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_saved ON job (ended, saved);
CREATE TABLE IF NOT EXISTS letter (
    letter_id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    status INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL,
    message BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS survivor (name TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ceiling (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), seq INTEGER NOT NULL) STRICT;
"""
EXPECTED = (
    "SELECT entry_id, job_id, rank, seq, taken_wall, message FROM entry LIMIT 0",
    "SELECT job_id, saved, ended, snapshot FROM job LIMIT 0",
    "SELECT letter_id, job_id, seq, status, reason, at, message FROM letter LIMIT 0",
    "SELECT name, record FROM survivor LIMIT 0",
    "SELECT seq FROM ceiling LIMIT 0",
)
"""Fails on a file that has other tables than ours."""

INSERT = "INSERT INTO entry (job_id, rank, seq, taken_wall, message) VALUES (?, ?, ?, ?, ?)"
FIRST = """SELECT entry_id, job_id, rank, seq, message FROM entry
    WHERE job_id = ? AND NOT (rank = 1 AND ?) ORDER BY rank, entry_id LIMIT ?"""
"""The lane in its order; the second parameter leaves progress out."""
PROGRESS = "SELECT entry_id, message FROM entry WHERE job_id = ? AND rank = 1"
LAST_SAMPLE = "SELECT message FROM entry WHERE job_id = ? AND rank = 2 ORDER BY entry_id DESC LIMIT 1"
FIRST_SAMPLE = "SELECT message FROM entry WHERE job_id = ? AND rank = 2 ORDER BY entry_id LIMIT 1"
SAMPLE_COUNT = "SELECT count(*) FROM entry WHERE job_id = ? AND rank = 2"
THIN_SAMPLES = """DELETE FROM entry WHERE entry_id IN (SELECT entry_id FROM
    (SELECT entry_id, row_number() OVER (ORDER BY entry_id) AS place FROM entry WHERE job_id = ? AND rank = 2)
    WHERE place % 2 = 0) RETURNING entry_id"""
"""Every second one of the job's."""
BECOME_SAMPLE = "UPDATE entry SET rank = 2 WHERE entry_id = ?"
REMOVE = "DELETE FROM entry WHERE entry_id = ? AND seq = ? RETURNING rank"
"""With `seq`: an id may have been given to a newer message meanwhile. A row for what was there."""
REMOVE_PROGRESS = "DELETE FROM entry WHERE job_id = ? AND rank = 1 RETURNING entry_id"
REMOVE_ANY = "DELETE FROM entry WHERE entry_id = ?"
RENUMBER = "UPDATE entry SET seq = ?, message = ? WHERE entry_id = ? AND seq = ?"
WAITING = "SELECT job_id FROM entry GROUP BY job_id ORDER BY min(entry_id)"
KNOWN = "SELECT 1 FROM entry WHERE job_id = ?1 UNION ALL SELECT 1 FROM job WHERE job_id = ?1 LIMIT 1"
"""Something of the job waits, or was kept before and is delivered."""
OLDEST_SAMPLES = "SELECT entry_id, length(message) FROM entry WHERE rank = 2 ORDER BY entry_id LIMIT 256"
STILL_THERE = "SELECT rank FROM entry WHERE entry_id = ? AND seq = ?"
COUNTS = "SELECT rank, count(*) FROM entry GROUP BY rank"
COUNT = "SELECT count(*) FROM entry"
OLDEST = "SELECT entry_id, seq, taken_wall FROM entry ORDER BY entry_id LIMIT ?"

SAVE_JOB = """INSERT INTO job (job_id, saved, ended, snapshot)
    VALUES (?, (SELECT coalesce(max(saved), 0) + 1 FROM job WHERE ended = ?), ?, ?)
    ON CONFLICT (job_id) DO UPDATE SET saved = excluded.saved, ended = excluded.ended, snapshot = excluded.snapshot"""
OLDEST_ENDED = "SELECT job_id, length(snapshot) FROM job WHERE ended = 1 ORDER BY saved LIMIT 256"
FORGET_JOB = "DELETE FROM job WHERE job_id = ?"
JOBS = "SELECT job_id, snapshot, ended FROM job ORDER BY saved"
FORGET_JOBS = """DELETE FROM job WHERE job_id IN
    (SELECT job_id FROM job WHERE ended = ? ORDER BY saved DESC LIMIT -1 OFFSET ?)"""
"""All but the last saved ones."""

RAISE_CEILING = """INSERT INTO ceiling (only_row, seq) VALUES (1, ?)
    ON CONFLICT (only_row) DO UPDATE SET seq = max(seq, excluded.seq)"""
CEILING = "SELECT seq FROM ceiling"

REMEMBER = """INSERT INTO survivor (name, record) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET record = excluded.record"""
FORGET = "DELETE FROM survivor WHERE name = ?"
SURVIVORS = "SELECT name, record FROM survivor"

BURY = """INSERT INTO letter (letter_id, job_id, seq, status, reason, at, message)
    VALUES (max(?, (SELECT coalesce(max(letter_id), 0) FROM letter)) + 1, ?, ?, ?, ?, ?, ?) RETURNING letter_id"""
"""Above the parameter too: who names a letter that is gone must not hit another."""
LETTERS = "SELECT letter_id, job_id, seq, status, reason, at, message FROM letter ORDER BY letter_id"
LETTER_MESSAGES = "SELECT letter_id, message FROM letter ORDER BY letter_id"
LETTER_MESSAGE = "SELECT letter_id, message FROM letter WHERE letter_id = ?"
TAKE_LETTER = "DELETE FROM letter WHERE letter_id = ? RETURNING letter_id"
TAKE_LETTERS = "DELETE FROM letter RETURNING letter_id"
LETTER_COUNT = "SELECT count(*) FROM letter"
LETTER_BYTES = "SELECT count(*), coalesce(sum(length(message)), 0) FROM letter"
FORGET_LETTER = "DELETE FROM letter WHERE letter_id = (SELECT min(letter_id) FROM letter)"
