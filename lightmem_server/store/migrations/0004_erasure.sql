-- What is left of an erased user, and of erasures: numbers, times, and hashes under a salt that never leaves this file. Whoever has
-- the file can test a guess of a user id, and learns nothing else.

CREATE TABLE erasure_salt (salt BLOB NOT NULL);
INSERT INTO erasure_salt VALUES (randomblob(32));

-- One for each erasure that was ever asked for: the receipts.
CREATE TABLE erasure (
    erasure_no     INTEGER PRIMARY KEY,
    receipt_id     BLOB    NOT NULL UNIQUE,
    namespace      TEXT    NOT NULL,
    user_hash      BLOB    NOT NULL,
    erased_at      INTEGER NOT NULL,
    wiped_at       INTEGER,                    -- NULL: bytes of it may still be in a file
    memory_count   INTEGER NOT NULL,
    vector_count   INTEGER NOT NULL,
    job_count      INTEGER NOT NULL,
    withdrawn_support_count INTEGER NOT NULL   -- shared facts that the user supported; 0 until there are some
);
CREATE INDEX erasure_not_wiped ON erasure (erasure_no) WHERE wiped_at IS NULL;

-- The tombstone of a partition. A user who comes back goes on counting versions where the erased one stopped, so that no replica
-- takes its copy of the one for the other's.
CREATE TABLE erased_partition (
    user_hash  BLOB    NOT NULL UNIQUE,
    version    INTEGER NOT NULL,
    generation INTEGER NOT NULL                -- counts the user's erasures: what was begun under an earlier one is refused
);

-- Requests that were stored before the erasure: their retries store nothing. Forgotten as other requests are.
CREATE TABLE erased_request (
    request_hash BLOB    NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL
);
CREATE INDEX erased_request_created ON erased_request (created_at);

ALTER TABLE partition ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;

-- Deleting a run looks for the history that names it.
CREATE INDEX history_run ON history (run_no) WHERE run_no IS NOT NULL;
