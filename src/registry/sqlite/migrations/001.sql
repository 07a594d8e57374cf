CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Clustered by id: a scan in the order of ids, which every target needs, is a plain walk.
CREATE TABLE device (
    device_id        TEXT PRIMARY KEY,
    device_name      TEXT    NOT NULL,
    template         TEXT,
    organization     TEXT,
    state            TEXT    NOT NULL,
    blocked          INTEGER NOT NULL,
    simulated        INTEGER NOT NULL,
    iot_edge         INTEGER NOT NULL,
    connection_state TEXT    NOT NULL,
    last_activity    TEXT,
    edge_manifest    TEXT,
    -- The sections of the twin: JSON objects without white space.
    tags             TEXT    NOT NULL,
    cloud            TEXT    NOT NULL,
    desired          TEXT    NOT NULL,
    desired_version  INTEGER NOT NULL,
    reported         TEXT    NOT NULL,
    reported_version INTEGER NOT NULL,
    -- The import that brought it.
    import           TEXT
) WITHOUT ROWID;

CREATE INDEX device_blocked ON device (device_id) WHERE blocked = 1;

-- Apart from the devices, so that no query over devices can show a key. 32 bytes each; thumbprints are hex.
CREATE TABLE device_key (
    device_id            TEXT PRIMARY KEY,
    primary_key          BLOB,
    secondary_key        BLOB,
    primary_thumbprint   TEXT,
    secondary_thumbprint TEXT
) WITHOUT ROWID;

CREATE TABLE import (
    name       TEXT PRIMARY KEY,
    digest     TEXT NOT NULL,
    applied_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE run (
    run_id      INTEGER PRIMARY KEY,
    job         TEXT    NOT NULL,
    run         TEXT    NOT NULL,
    -- 0 until the claim is on the results branch.
    is_claimed  INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    reason      TEXT,
    total       INTEGER NOT NULL,
    -- Devices of each batch but perhaps the last.
    batch_size  INTEGER NOT NULL,
    -- The claim document.
    claim       TEXT    NOT NULL,
    started_at  TEXT,
    finished_at TEXT,
    -- 1 when its end is on the results branch.
    is_closed   INTEGER NOT NULL DEFAULT 0,
    -- `run.json` as it was last published, or was about to be; null while there is nothing but the claim.
    record      TEXT,
    -- 1 when the shards that go with it have the failed devices only.
    is_failures INTEGER NOT NULL DEFAULT 0,
    UNIQUE (job, run)
);

-- The target of a run: ids in chunks, a line each, sorted.
CREATE TABLE run_target (
    run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    first  INTEGER NOT NULL,
    ids    TEXT    NOT NULL,
    PRIMARY KEY (run_id, first)
) WITHOUT ROWID;

-- Terminal devices only. Times are microseconds since 1970.
CREATE TABLE outcome (
    run_id      INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    reason      INTEGER NOT NULL,
    code        INTEGER,
    message     TEXT,
    attempts    INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    PRIMARY KEY (run_id, ordinal)
) WITHOUT ROWID;

-- Devices that were, or are about to be, spoken to and have no outcome.
CREATE TABLE sent (
    run_id  INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    sent_at INTEGER NOT NULL,
    -- 0: an answer may come. 1: not delivered; it waits to come online. 2: written; it waits to be acknowledged.
    waits   INTEGER NOT NULL DEFAULT 0,
    -- Of a written device: the version of its desired section that the write made.
    version INTEGER,
    PRIMARY KEY (run_id, ordinal)
) WITHOUT ROWID;

-- Answers that came after the device had an outcome.
CREATE TABLE late (
    run_id  INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    code    INTEGER NOT NULL,
    message TEXT    NOT NULL,
    at      INTEGER NOT NULL
);

-- Files of the results branch that the tables above cannot make again: the reports of imports, and runs whose journal was lost or that
-- were never here. Without them a branch that is gone could not be published again.
CREATE TABLE kept_file (
    path    TEXT PRIMARY KEY,
    content BLOB NOT NULL,
    -- What git calls the content; null until it was compared with the branch.
    blob_id TEXT
);
