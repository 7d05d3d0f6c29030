-- The LTM that the users of a namespace share, in the partition of the user '*': what enough of them say, and nothing of who.

-- Which facts of which users say what. Nobody is shown a row of it, or how many there are.
CREATE TABLE support (
    partition_id INTEGER NOT NULL REFERENCES partition,  -- the user's
    fact_id      BLOB    NOT NULL,
    shared_id    INTEGER NOT NULL REFERENCES partition,  -- the namespace's '*'
    key          BLOB    NOT NULL,                       -- hash of what the fact says without its person
    UNIQUE (partition_id, fact_id)
);
CREATE INDEX support_key ON support (shared_id, key, partition_id);

-- The shared facts; their words are in memory. Each goes with the transaction that leaves it fewer users than it needs.
CREATE TABLE shared_fact (
    shared_id INTEGER NOT NULL REFERENCES partition,
    key       BLOB    NOT NULL,
    id        BLOB    NOT NULL,
    min_users INTEGER NOT NULL,
    UNIQUE (shared_id, key),
    UNIQUE (shared_id, id)
);
