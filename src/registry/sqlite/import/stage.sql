-- What imports would do, beside the devices and for one connection only.
CREATE TEMP TABLE IF NOT EXISTS staged_import (
    import_id    INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    template     TEXT,
    organization TEXT,
    simulated    INTEGER NOT NULL
);

-- The rows. What a new device shares with the others of its import is not repeated, and what an updated one keeps is not copied:
-- the views put them together.
CREATE TEMP TABLE IF NOT EXISTS staged (
    device_id            TEXT PRIMARY KEY,
    import_id            INTEGER NOT NULL,
    -- 0 unchanged, 1 updated, 2 new, 3 deleted by its row
    kind                 INTEGER NOT NULL,
    -- NULL for the id of a new device.
    device_name          TEXT,
    -- NULL for a new device: that of the import.
    template             TEXT,
    -- NULL: that of the import.
    organization         TEXT,
    state                TEXT,
    -- From here on NULL is what the device has, or what a new one begins with.
    tags                 TEXT,
    cloud                TEXT,
    blocked              INTEGER,
    iot_edge             INTEGER,
    desired              TEXT,
    desired_version      INTEGER,
    reported             TEXT,
    reported_version     INTEGER,
    -- NULL: the keys stay, and a new device gets some.
    authentication       TEXT,
    primary_key          BLOB,
    secondary_key        BLOB,
    primary_thumbprint   TEXT,
    secondary_thumbprint TEXT
) WITHOUT ROWID;

-- Staged rows of devices that belong to another declared import. They are refused when its file has the device too.
CREATE TEMP TABLE IF NOT EXISTS staged_wanted (
    device_id  TEXT    NOT NULL,
    import_id  INTEGER NOT NULL,
    owner      TEXT    NOT NULL,
    line       INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    is_renamed INTEGER NOT NULL,
    is_blocked INTEGER NOT NULL,
    is_refused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device_id, import_id)
) WITHOUT ROWID;

-- Devices of rejected rows: they are in the file, so they have not left it.
CREATE TEMP TABLE IF NOT EXISTS staged_rejected (
    device_id TEXT    NOT NULL,
    import_id INTEGER NOT NULL,
    PRIMARY KEY (device_id, import_id)
) WITHOUT ROWID;

-- Devices that left their file, and what becomes of them.
CREATE TEMP TABLE IF NOT EXISTS staged_removed (
    device_id TEXT PRIMARY KEY,
    import_id INTEGER NOT NULL,
    policy    TEXT    NOT NULL
) WITHOUT ROWID;

CREATE TEMP VIEW IF NOT EXISTS staged_new AS
SELECT s.device_id, coalesce(s.device_name, s.device_id) AS device_name,
       coalesce(s.template, i.template) AS template, coalesce(s.organization, i.organization) AS organization,
       CASE WHEN coalesce(s.template, i.template) IS NULL THEN 'unassociated' ELSE 'registered' END AS state, coalesce(s.blocked, 0) AS blocked,
       i.simulated, coalesce(s.iot_edge, 0) AS iot_edge, 'Disconnected' AS connection_state, NULL AS last_activity,
       NULL AS edge_manifest, coalesce(s.tags, '{}') AS tags, coalesce(s.cloud, '{}') AS cloud,
       coalesce(s.desired, '{}') AS desired, coalesce(s.desired_version, 1) AS desired_version,
       coalesce(s.reported, '{}') AS reported, coalesce(s.reported_version, 1) AS reported_version, i.name AS import,
       NULL AS edge_manifest_digest
FROM temp.staged AS s CROSS JOIN temp.staged_import AS i ON i.import_id = s.import_id
WHERE s.kind = 2;

CREATE TEMP VIEW IF NOT EXISTS staged_updated AS
SELECT s.device_id, coalesce(s.device_name, d.device_name) AS device_name, s.template,
       coalesce(s.organization, i.organization) AS organization, s.state, coalesce(s.blocked, d.blocked) AS blocked, i.simulated, coalesce(s.iot_edge, d.iot_edge) AS iot_edge,
       d.connection_state, d.last_activity, d.edge_manifest, coalesce(s.tags, d.tags) AS tags,
       coalesce(s.cloud, d.cloud) AS cloud, coalesce(s.desired, d.desired) AS desired,
       d.desired_version + (s.desired IS NOT NULL) AS desired_version, d.reported, d.reported_version, i.name AS import,
       d.edge_manifest_digest
FROM temp.staged AS s
CROSS JOIN temp.staged_import AS i ON i.import_id = s.import_id
CROSS JOIN main.device AS d ON d.device_id = s.device_id
WHERE s.kind = 1;

-- The devices as the staged imports will leave them.
CREATE TEMP VIEW IF NOT EXISTS fleet AS
SELECT * FROM main.device AS d
WHERE NOT EXISTS (SELECT 1 FROM temp.staged AS s WHERE s.device_id = d.device_id AND s.kind > 0)
  AND NOT EXISTS (SELECT 1 FROM temp.staged_removed AS r WHERE r.device_id = d.device_id)
UNION ALL
SELECT * FROM temp.staged_new
UNION ALL
SELECT * FROM temp.staged_updated
UNION ALL
SELECT d.device_id, d.device_name, d.template, d.organization, d.state, 1, d.simulated, d.iot_edge, d.connection_state,
       d.last_activity, d.edge_manifest, d.tags, d.cloud, d.desired, d.desired_version, d.reported, d.reported_version,
       d.import, d.edge_manifest_digest
FROM temp.staged_removed AS r CROSS JOIN main.device AS d ON d.device_id = r.device_id
WHERE r.policy = 'block';
