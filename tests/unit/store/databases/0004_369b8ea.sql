
PRAGMA page_size=4096;

BEGIN TRANSACTION;

DROP TABLE IF EXISTS access;
CREATE TABLE access (
    memory_no        INTEGER PRIMARY KEY REFERENCES memory ON DELETE CASCADE,
    access_count     INTEGER NOT NULL,
    last_accessed_at INTEGER
);
INSERT INTO access VALUES(1,1,11);

DROP TABLE IF EXISTS api_key;
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
INSERT INTO api_key VALUES('key1','default',X'0101010101010101010101010101010101010101010101010101010101010101','first','["ann"]',1,7,NULL,NULL);
CREATE INDEX api_key_namespace ON api_key (namespace, key_id);

DROP TABLE IF EXISTS history;
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
INSERT INTO history VALUES(1,1,X'0000000000000000000000000000A001',1,1700000000000002,'update',NULL,2,1,1,'s','',1700000000000001,NULL,NULL,X'0000000000000000000000000000A000','{"speaker":"Ann","metadata":{"n":1,"word":"ü"},"text":"„Straße 7\", 北京 😀","created_at":1700000000000001}');

DROP TABLE IF EXISTS job;
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
INSERT INTO job VALUES(1,1,'consolidate','','{}',5,0,NULL,NULL,'',NULL);
CREATE INDEX job_due ON job (kind, not_before) WHERE lease_owner IS NULL AND dead_at IS NULL;
CREATE INDEX job_lapsed ON job (kind, lease_until) WHERE lease_owner IS NOT NULL;
CREATE INDEX job_partition ON job (partition_id, lease_until);
CREATE UNIQUE INDEX job_waiting ON job (partition_id, kind, key) WHERE lease_owner IS NULL;

DROP TABLE IF EXISTS memory;
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
INSERT INTO memory VALUES(1,1,X'0000000000000000000000000000A000',65536,1,1,2,1,1,'s','',1700000000000000,NULL,NULL,NULL,'{"speaker":"Ann","metadata":{"n":0,"word":"ü"},"text":"I moved to Lisbon.","created_at":1700000000000001}');
INSERT INTO memory VALUES(2,1,X'0000000000000000000000000000A001',131072,5,2,2,1,1,'s','',1700000000000001,NULL,NULL,X'0000000000000000000000000000A000','{"speaker":"Ann","metadata":{"n":1,"word":"ü"},"is_pinned":true,"text":"„Straße 7\", 北京 😀","created_at":1700000000000001}');
INSERT INTO memory VALUES(3,1,X'0000000000000000000000000000A002',196608,3,1,2,1,1,'s','',1700000000000002,NULL,NULL,X'0000000000000000000000000000A001','{"speaker":"Ann","metadata":{"n":2,"word":"ü"},"text":"My sister Rita bakes bread.","created_at":1700000000000001}');
INSERT INTO memory VALUES(4,2,X'0000000000000000000000000000A009',65536,1,1,2,1,1,'s','',1700000000000000,NULL,NULL,NULL,'{"speaker":"Ann","metadata":{"n":0,"word":"ü"},"text":"Only Ben''s.","created_at":1700000000000001}');
CREATE INDEX memory_changed ON memory (partition_id, changed_version, tier, kind, state);
CREATE INDEX memory_previous ON memory (partition_id, previous_id, order_no) WHERE previous_id IS NOT NULL;

DROP TABLE IF EXISTS model;
CREATE TABLE model (
    model_no INTEGER PRIMARY KEY,
    identity TEXT    NOT NULL UNIQUE
);
INSERT INTO model VALUES(1,'bge-small-en-v1.5@int8');

DROP TABLE IF EXISTS model_time;
CREATE TABLE model_time (
    namespace TEXT    NOT NULL,
    minute    INTEGER NOT NULL,                 -- microseconds at its beginning
    micros    INTEGER NOT NULL,
    UNIQUE (namespace, minute)
);

DROP TABLE IF EXISTS "partition";
CREATE TABLE partition (
    partition_id INTEGER PRIMARY KEY,
    namespace    TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    version      INTEGER NOT NULL,            -- counts the partition's commits without gaps
    purge_floor  INTEGER NOT NULL DEFAULT 0, snapshot_floor INTEGER NOT NULL DEFAULT 0,  -- deletions up to this version are forgotten
    UNIQUE (namespace, user_id)
);
INSERT INTO "partition" VALUES(1,'default','ann',6,0,6);
INSERT INTO "partition" VALUES(2,'other','ben ü',1,0,0);

DROP TABLE IF EXISTS request;
CREATE TABLE request (
    partition_id INTEGER NOT NULL REFERENCES partition,
    request_id   TEXT    NOT NULL,
    digest       BLOB    NOT NULL,
    result       BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (partition_id, request_id)
);
INSERT INTO request VALUES(1,'r1',X'646967657374',X'726573756C74',1700000000000002);
CREATE INDEX request_created ON request (created_at);

DROP TABLE IF EXISTS run;
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
CREATE UNIQUE INDEX run_at_work ON run (partition_id) WHERE state = 'running';
CREATE INDEX run_partition ON run (partition_id, run_no);

DROP TABLE IF EXISTS run_change;
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

DROP TABLE IF EXISTS run_step;
CREATE TABLE run_step (
    step_no INTEGER PRIMARY KEY,
    run_no  INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    stage   TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    data    TEXT    NOT NULL,
    is_marked INTEGER NOT NULL DEFAULT 0,  -- a change that came of it is committed
    UNIQUE (run_no, stage, key)
);

DROP TABLE IF EXISTS run_step_source;
CREATE TABLE run_step_source (
    step_no      INTEGER NOT NULL REFERENCES run_step ON DELETE CASCADE,
    partition_id INTEGER NOT NULL REFERENCES partition,
    id           BLOB    NOT NULL,
    UNIQUE (partition_id, id, step_no)
);
CREATE INDEX run_step_source_step ON run_step_source (step_no);

DROP TABLE IF EXISTS shared_fact;
CREATE TABLE shared_fact (
    shared_id INTEGER NOT NULL REFERENCES partition,
    key       BLOB    NOT NULL,
    id        BLOB    NOT NULL,
    min_users INTEGER NOT NULL,
    UNIQUE (shared_id, key),
    UNIQUE (shared_id, id)
);

DROP TABLE IF EXISTS snapshot;
CREATE TABLE snapshot (
    partition_id INTEGER NOT NULL REFERENCES partition,
    part         INTEGER NOT NULL,
    parts        INTEGER NOT NULL,
    version      INTEGER NOT NULL,  -- the partition's version that it shows
    identity     TEXT    NOT NULL,  -- of what else it depends on, such as the embedder
    data         BLOB    NOT NULL,
    UNIQUE (partition_id, part)
);

DROP TABLE IF EXISTS support;
CREATE TABLE support (
    partition_id INTEGER NOT NULL REFERENCES partition,  -- the user's
    fact_id      BLOB    NOT NULL,
    shared_id    INTEGER NOT NULL REFERENCES partition,  -- the namespace's '*'
    key          BLOB    NOT NULL,                       -- hash of what the fact says without its person
    UNIQUE (partition_id, fact_id)
);
CREATE INDEX support_key ON support (shared_id, key, partition_id);

DROP TABLE IF EXISTS tombstone;
CREATE TABLE tombstone (
    partition_id    INTEGER NOT NULL REFERENCES partition,
    id              BLOB    NOT NULL,
    deleted_version INTEGER NOT NULL,
    UNIQUE (partition_id, id)
);
INSERT INTO tombstone VALUES(1,X'0000000000000000000000000000A003',6);
CREATE INDEX tombstone_deleted ON tombstone (partition_id, deleted_version);

DROP TABLE IF EXISTS vector;
CREATE TABLE vector (
    memory_no INTEGER PRIMARY KEY REFERENCES memory ON DELETE CASCADE,
    model_no  INTEGER NOT NULL REFERENCES model,
    views     INTEGER NOT NULL,
    dim       INTEGER NOT NULL,
    data      BLOB    NOT NULL  -- (views, dim) float32, little-endian
);
INSERT INTO vector VALUES(1,1,2,4,X'000000002549123E2549923EB76DDB3E2549123F6EDB363FB76D5B3F0000803F');
INSERT INTO vector VALUES(2,1,2,4,X'2549123E2549923EB76DDB3E2549123F6EDB363FB76D5B3F0000803F2549923F');
INSERT INTO vector VALUES(3,1,2,4,X'2549923EB76DDB3E2549123F6EDB363FB76D5B3F0000803F2549923F4992A43F');
CREATE INDEX vector_model ON vector (model_no);

DROP TABLE IF EXISTS watermark;
CREATE TABLE watermark (
    partition_id INTEGER NOT NULL REFERENCES partition,
    name         TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    UNIQUE (partition_id, name)
);

DELETE FROM main.sqlite_sequence WHERE name='job';
INSERT INTO main.sqlite_sequence VALUES ('job', 1);

pragma user_version=4;
pragma application_id=1280140653;

COMMIT TRANSACTION;
