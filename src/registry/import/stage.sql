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
    device_id     TEXT PRIMARY KEY,
    import_id     INTEGER NOT NULL,
    -- 0 unchanged, 1 updated, 2 new
    kind          INTEGER NOT NULL,
    device_name   TEXT,
    -- NULL for a new device: that of the import.
    template      TEXT,
    state         TEXT,
    tags          TEXT,
    -- NULL for none.
    cloud         TEXT,
    primary_key   BLOB,
    secondary_key BLOB
) WITHOUT ROWID;

-- Devices of rejected rows: they are in the file, so they have not left it.
CREATE TEMP TABLE IF NOT EXISTS staged_rejected (device_id TEXT PRIMARY KEY) WITHOUT ROWID;

-- Devices that left their file, and what becomes of them.
CREATE TEMP TABLE IF NOT EXISTS staged_removed (device_id TEXT PRIMARY KEY, policy TEXT NOT NULL) WITHOUT ROWID;

CREATE TEMP VIEW IF NOT EXISTS staged_new AS
SELECT s.device_id, s.device_name, i.template, i.organization,
       CASE WHEN i.template IS NULL THEN 'unassociated' ELSE 'registered' END AS state, 0 AS blocked, i.simulated,
       0 AS iot_edge, 'Disconnected' AS connection_state, NULL AS last_activity, NULL AS edge_manifest, s.tags,
       coalesce(s.cloud, '{}') AS cloud, '{}' AS desired, 1 AS desired_version, '{}' AS reported, 1 AS reported_version,
       i.name AS import
FROM temp.staged AS s CROSS JOIN temp.staged_import AS i ON i.import_id = s.import_id
WHERE s.kind = 2;

CREATE TEMP VIEW IF NOT EXISTS staged_updated AS
SELECT s.device_id, s.device_name, s.template, i.organization, s.state, d.blocked, i.simulated, d.iot_edge,
       d.connection_state, d.last_activity, d.edge_manifest, s.tags, coalesce(s.cloud, '{}') AS cloud, d.desired,
       d.desired_version, d.reported, d.reported_version, i.name AS import
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
       d.import
FROM temp.staged_removed AS r CROSS JOIN main.device AS d ON d.device_id = r.device_id
WHERE r.policy = 'block';
