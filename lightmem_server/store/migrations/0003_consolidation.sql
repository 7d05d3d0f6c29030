-- What consolidation does, so that it can go on after a crash, be followed, explained and undone.

-- One run over one user's memories. A run at work is owned by one worker; what another commits for it is refused.
CREATE TABLE run (
    run_no         INTEGER PRIMARY KEY,
    run_id         BLOB    NOT NULL UNIQUE,
    partition_id   INTEGER NOT NULL REFERENCES partition,
    cause          TEXT    NOT NULL,            -- what started it
    state          TEXT    NOT NULL,            -- running, done, failed, cancelled, undone
    owner          TEXT    NOT NULL,
    started_at     INTEGER NOT NULL,
    finished_at    INTEGER,
    model          TEXT    NOT NULL,            -- the Writer's identity
    prompt         TEXT    NOT NULL,            -- version of its instructions
    from_version   INTEGER NOT NULL,            -- the partition's versions that it covers
    to_version     INTEGER NOT NULL,
    kept_count     INTEGER NOT NULL DEFAULT 0,
    rejected       TEXT    NOT NULL DEFAULT '{}', -- JSON: candidates by the rule that rejected them
    error          TEXT    NOT NULL DEFAULT '',
    model_tokens   INTEGER NOT NULL DEFAULT 0,
    model_micros   INTEGER NOT NULL DEFAULT 0,
    restored_count INTEGER NOT NULL DEFAULT 0,  -- by its undoing
    removed_count  INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX run_partition ON run (partition_id, run_no);
CREATE UNIQUE INDEX run_at_work ON run (partition_id) WHERE state = 'running';

-- Outcomes of a run at work; a run that ended has none. Holds words of the memories in run_step_source.
CREATE TABLE run_step (
    step_no INTEGER PRIMARY KEY,
    run_no  INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    stage   TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    data    TEXT    NOT NULL,
    is_marked INTEGER NOT NULL DEFAULT 0,  -- a change that came of it is committed
    UNIQUE (run_no, stage, key)
);
CREATE TABLE run_step_source (
    step_no      INTEGER NOT NULL REFERENCES run_step ON DELETE CASCADE,
    partition_id INTEGER NOT NULL REFERENCES partition,
    id           BLOB    NOT NULL,
    UNIQUE (partition_id, id, step_no)
);
CREATE INDEX run_step_source_step ON run_step_source (step_no);

-- Which records a run made or changed, from which version to which.
CREATE TABLE run_change (
    run_no         INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    partition_id   INTEGER NOT NULL REFERENCES partition,
    id             BLOB    NOT NULL,
    version_before INTEGER,                     -- NULL: the run made it
    version_after  INTEGER NOT NULL,            -- the last that the run made
    reason         TEXT    NOT NULL,            -- why it was made, or first changed
    UNIQUE (run_no, id)
);
CREATE INDEX run_change_record ON run_change (partition_id, id);

-- Earlier states of changed records. The first table of this name was never written to.
DROP TABLE history;
CREATE TABLE history (
    history_no     INTEGER PRIMARY KEY,
    partition_id   INTEGER NOT NULL REFERENCES partition,
    id             BLOB    NOT NULL,
    record_version INTEGER NOT NULL,
    changed_at     INTEGER NOT NULL,            -- when, why and by which run it was changed to the next version
    reason         TEXT    NOT NULL,
    run_no         INTEGER REFERENCES run,
    tier           INTEGER NOT NULL,
    kind           INTEGER NOT NULL,
    state          INTEGER NOT NULL,
    session_id     TEXT    NOT NULL,
    agent_id       TEXT    NOT NULL,
    occurred_at    INTEGER NOT NULL,
    valid_from     INTEGER,
    valid_to       INTEGER,
    previous_id    BLOB,
    body           TEXT,                        -- NULL: that of the next version, as after archiving
    UNIQUE (partition_id, id, record_version)
);

-- Model time that background work took, by namespace and minute; of the last hour.
CREATE TABLE model_time (
    namespace TEXT    NOT NULL,
    minute    INTEGER NOT NULL,                 -- microseconds at its beginning
    micros    INTEGER NOT NULL,
    UNIQUE (namespace, minute)
);

-- Anew, for AUTOINCREMENT: the number of a finished job must not become another's, whom a late worker would take for its own.
ALTER TABLE job RENAME TO old_job;
CREATE TABLE job (
    job_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    partition_id INTEGER NOT NULL REFERENCES partition,
    kind         TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    not_before   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    lease_owner  TEXT,
    lease_until  INTEGER,
    last_error   TEXT    NOT NULL DEFAULT '',
    dead_at      INTEGER                        -- failed too often, and set aside until somebody asks for it
);
INSERT INTO job SELECT *, NULL FROM old_job;
DROP TABLE old_job;
CREATE UNIQUE INDEX job_waiting ON job (partition_id, kind, key) WHERE lease_owner IS NULL;
CREATE INDEX job_due ON job (kind, not_before) WHERE lease_owner IS NULL AND dead_at IS NULL;
CREATE INDEX job_partition ON job (partition_id, lease_until);
CREATE INDEX job_lapsed ON job (kind, lease_until) WHERE lease_owner IS NOT NULL;
