-- The first schema. Times are microseconds since 1970-01-01 UTC; ids are 16 bytes.

-- One user of one namespace. Surrogate numbers keep the names out of every other row and index.
CREATE TABLE partition (
    partition_id INTEGER PRIMARY KEY,
    namespace    TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    version      INTEGER NOT NULL,            -- counts the partition's commits without gaps
    purge_floor  INTEGER NOT NULL DEFAULT 0,  -- deletions up to this version are forgotten
    UNIQUE (namespace, user_id)
);

-- What filters and replicas select by has a column; the rest of a record is in body (store/rows.py).
CREATE TABLE memory (
    memory_no       INTEGER PRIMARY KEY,
    partition_id    INTEGER NOT NULL REFERENCES partition,
    id              BLOB    NOT NULL,
    order_no        INTEGER NOT NULL,  -- version of the first commit * 65536 + place in it
    changed_version INTEGER NOT NULL,  -- the partition's version at the last change
    record_version  INTEGER NOT NULL,
    tier            INTEGER NOT NULL,
    kind            INTEGER NOT NULL,
    state           INTEGER NOT NULL,
    session_id      TEXT    NOT NULL,
    agent_id        TEXT    NOT NULL,
    occurred_at     INTEGER NOT NULL,
    valid_from      INTEGER,
    valid_to        INTEGER,
    previous_id     BLOB,
    body            TEXT    NOT NULL,  -- JSON
    UNIQUE (partition_id, id),
    UNIQUE (partition_id, order_no)
);
-- The columns after changed_version make it cover the counts of GetStats.
CREATE INDEX memory_changed ON memory (partition_id, changed_version, tier, kind, state);
CREATE INDEX memory_previous ON memory (partition_id, previous_id, order_no) WHERE previous_id IS NOT NULL;

-- Embedders that vectors were made with; a number instead of a long name in every row.
CREATE TABLE model (
    model_no INTEGER PRIMARY KEY,
    identity TEXT    NOT NULL UNIQUE
);

-- Apart from memory, so that a listing doesn't drag 3 KB a record through the cache.
CREATE TABLE vector (
    memory_no INTEGER PRIMARY KEY REFERENCES memory ON DELETE CASCADE,
    model_no  INTEGER NOT NULL REFERENCES model,
    views     INTEGER NOT NULL,
    dim       INTEGER NOT NULL,
    data      BLOB    NOT NULL  -- (views, dim) float32, little-endian
);
CREATE INDEX vector_model ON vector (model_no);

-- Apart from memory, so that being read doesn't rewrite a record.
CREATE TABLE access (
    memory_no        INTEGER PRIMARY KEY REFERENCES memory ON DELETE CASCADE,
    access_count     INTEGER NOT NULL,
    last_accessed_at INTEGER
);

-- What is left of a deleted record: replicas learn of it, and the id does not come back.
CREATE TABLE tombstone (
    partition_id    INTEGER NOT NULL REFERENCES partition,
    id              BLOB    NOT NULL,
    deleted_version INTEGER NOT NULL,
    UNIQUE (partition_id, id)
);
CREATE INDEX tombstone_deleted ON tombstone (partition_id, deleted_version);

-- Results of requests, so that a retry is answered with the first result.
CREATE TABLE request (
    partition_id INTEGER NOT NULL REFERENCES partition,
    request_id   TEXT    NOT NULL,
    digest       BLOB    NOT NULL,
    result       BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (partition_id, request_id)
);
CREATE INDEX request_created ON request (created_at);

-- Work that must not be forgotten. A job without an owner waits; one with an owner is leased until lease_until.
CREATE TABLE job (
    job_id       INTEGER PRIMARY KEY,
    partition_id INTEGER NOT NULL REFERENCES partition,
    kind         TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    not_before   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    lease_owner  TEXT,
    lease_until  INTEGER,
    last_error   TEXT    NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX job_waiting ON job (partition_id, kind, key) WHERE lease_owner IS NULL;
CREATE INDEX job_due ON job (kind, not_before) WHERE lease_owner IS NULL;
CREATE INDEX job_partition ON job (partition_id, lease_until);
CREATE INDEX job_lapsed ON job (kind, lease_until) WHERE lease_owner IS NOT NULL;

-- How far offline work of a kind has come in a partition.
CREATE TABLE watermark (
    partition_id INTEGER NOT NULL REFERENCES partition,
    name         TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    UNIQUE (partition_id, name)
);

-- Earlier texts of changed records.
CREATE TABLE history (
    history_no     INTEGER PRIMARY KEY,
    partition_id   INTEGER NOT NULL REFERENCES partition,
    id             BLOB    NOT NULL,
    record_version INTEGER NOT NULL,
    changed_at     INTEGER NOT NULL,
    body           TEXT    NOT NULL,
    UNIQUE (partition_id, id, record_version)
);

CREATE TABLE api_key (
    key_id      TEXT    NOT NULL UNIQUE,
    namespace   TEXT    NOT NULL,
    secret_hash BLOB    NOT NULL,
    label       TEXT    NOT NULL,
    user_ids    TEXT    NOT NULL,  -- JSON array
    is_admin    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER
);
CREATE INDEX api_key_namespace ON api_key (namespace, key_id);
