-- Copies of partitions as the engine holds them, so that a user who comes back is loaded fast.

-- A snapshot of an earlier version holds words that were deleted or rewritten since: it is neither kept nor taken.
ALTER TABLE partition ADD COLUMN snapshot_floor INTEGER NOT NULL DEFAULT 0;

-- In parts, so that no commit waits for a whole one to be written. It is whole when all its parts are of one version.
CREATE TABLE snapshot (
    partition_id INTEGER NOT NULL REFERENCES partition,
    part         INTEGER NOT NULL,
    parts        INTEGER NOT NULL,
    version      INTEGER NOT NULL,  -- the partition's version that it shows
    identity     TEXT    NOT NULL,  -- of what else it depends on, such as the embedder
    data         BLOB    NOT NULL,
    UNIQUE (partition_id, part)
);
