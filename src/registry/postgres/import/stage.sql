-- What imports would do, beside the devices and for one connection only.
CREATE TEMPORARY TABLE staged_import (
    import_id    integer PRIMARY KEY,
    name         text COLLATE "C" NOT NULL UNIQUE,
    template     text COLLATE "C",
    organization text COLLATE "C",
    simulated    boolean NOT NULL,
    -- The staged rows are in the order of their ids, so no sort is needed.
    is_sorted    boolean NOT NULL DEFAULT true
) ON COMMIT PRESERVE ROWS;

-- The rows, each device once; the index that says so is made behind the rows of the first file. What a new device shares with the
-- others of its import is not repeated, and what an updated one keeps is not copied: the views put them together.
CREATE TEMPORARY TABLE staged (
    device_id            text COLLATE "C" NOT NULL,
    import_id            integer NOT NULL,
    -- 0 unchanged, 1 updated, 2 new, 3 deleted by its row
    kind                 smallint NOT NULL,
    -- NULL for the id of a new device.
    device_name          text COLLATE "C",
    -- NULL for a new device: that of the import.
    template             text COLLATE "C",
    -- NULL: that of the import.
    organization         text COLLATE "C",
    state                text COLLATE "C",
    -- From here on NULL is what the device has, or what a new one begins with.
    tags                 jsonb,
    cloud                jsonb,
    blocked              boolean,
    iot_edge             boolean,
    desired              jsonb,
    desired_version      bigint,
    reported             jsonb,
    reported_version     bigint,
    -- NULL: the keys stay, and a new device gets some.
    authentication       text COLLATE "C",
    primary_key          bytea,
    secondary_key        bytea,
    primary_thumbprint   text COLLATE "C",
    secondary_thumbprint text COLLATE "C"
) ON COMMIT PRESERVE ROWS;

-- Staged rows of devices that belong to another declared import. They are refused when its file has the device too.
CREATE TEMPORARY TABLE staged_wanted (
    device_id  text COLLATE "C" NOT NULL,
    import_id  integer NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    line       bigint NOT NULL,
    kind       smallint NOT NULL,
    is_renamed boolean NOT NULL,
    is_blocked boolean NOT NULL,
    is_refused boolean NOT NULL,
    PRIMARY KEY (device_id, import_id)
) ON COMMIT PRESERVE ROWS;

-- Devices of rejected rows: they are in the file, so they have not left it. A device may be here twice.
CREATE TEMPORARY TABLE staged_rejected (
    device_id text COLLATE "C" NOT NULL,
    import_id integer NOT NULL
) ON COMMIT PRESERVE ROWS;

-- Devices that left their file, and what becomes of them.
CREATE TEMPORARY TABLE staged_removed (
    device_id text COLLATE "C" PRIMARY KEY,
    import_id integer NOT NULL,
    policy    text COLLATE "C" NOT NULL
) ON COMMIT PRESERVE ROWS;

CREATE TEMPORARY VIEW staged_new AS
SELECT s.device_id, coalesce(s.device_name, s.device_id) AS device_name,
       coalesce(s.template, i.template) AS template, coalesce(s.organization, i.organization) AS organization,
       CASE WHEN coalesce(s.template, i.template) IS NULL THEN 'unassociated' ELSE 'registered' END COLLATE "C" AS state,
       coalesce(s.blocked, false) AS blocked, i.simulated, coalesce(s.iot_edge, false) AS iot_edge,
       'Disconnected' COLLATE "C" AS connection_state, NULL::text COLLATE "C" AS last_activity,
       NULL::text COLLATE "C" AS edge_manifest, NULL::text COLLATE "C" AS edge_manifest_digest,
       coalesce(s.tags, '{}') AS tags, coalesce(s.cloud, '{}') AS cloud, coalesce(s.desired, '{}') AS desired,
       coalesce(s.desired_version, 1) AS desired_version, coalesce(s.reported, '{}') AS reported,
       coalesce(s.reported_version, 1) AS reported_version, i.name AS import, s.import_id
FROM pg_temp.staged AS s JOIN pg_temp.staged_import AS i ON i.import_id = s.import_id
WHERE s.kind = 2;

CREATE TEMPORARY VIEW staged_updated AS
SELECT s.device_id, coalesce(s.device_name, d.device_name) AS device_name, s.template,
       coalesce(s.organization, i.organization) AS organization, s.state, coalesce(s.blocked, d.blocked) AS blocked,
       i.simulated, coalesce(s.iot_edge, d.iot_edge) AS iot_edge, d.connection_state, d.last_activity, d.edge_manifest,
       d.edge_manifest_digest, coalesce(s.tags, d.tags) AS tags, coalesce(s.cloud, d.cloud) AS cloud,
       coalesce(s.desired, d.desired) AS desired,
       d.desired_version + (s.desired IS NOT NULL)::int AS desired_version, d.reported, d.reported_version,
       i.name AS import
FROM pg_temp.staged AS s
JOIN pg_temp.staged_import AS i ON i.import_id = s.import_id
JOIN fleetform.device AS d ON d.device_id = s.device_id
WHERE s.kind = 1;

-- The devices as the staged imports will leave them.
CREATE TEMPORARY VIEW fleet AS
SELECT d.device_id, d.device_name, d.template, d.organization, d.state, d.blocked, d.simulated, d.iot_edge,
       d.connection_state, d.last_activity, d.edge_manifest, d.edge_manifest_digest, d.tags, d.cloud, d.desired,
       d.desired_version, d.reported, d.reported_version, d.import
FROM fleetform.device AS d
WHERE NOT EXISTS (SELECT 1 FROM pg_temp.staged AS s WHERE s.device_id = d.device_id AND s.kind > 0)
  AND NOT EXISTS (SELECT 1 FROM pg_temp.staged_removed AS r WHERE r.device_id = d.device_id)
UNION ALL
SELECT n.device_id, n.device_name, n.template, n.organization, n.state, n.blocked, n.simulated, n.iot_edge,
       n.connection_state, n.last_activity, n.edge_manifest, n.edge_manifest_digest, n.tags, n.cloud, n.desired,
       n.desired_version, n.reported, n.reported_version, n.import
FROM pg_temp.staged_new AS n
UNION ALL
SELECT u.device_id, u.device_name, u.template, u.organization, u.state, u.blocked, u.simulated, u.iot_edge,
       u.connection_state, u.last_activity, u.edge_manifest, u.edge_manifest_digest, u.tags, u.cloud, u.desired,
       u.desired_version, u.reported, u.reported_version, u.import
FROM pg_temp.staged_updated AS u
UNION ALL
SELECT d.device_id, d.device_name, d.template, d.organization, d.state, true, d.simulated, d.iot_edge,
       d.connection_state, d.last_activity, d.edge_manifest, d.edge_manifest_digest, d.tags, d.cloud, d.desired,
       d.desired_version, d.reported, d.reported_version, d.import
FROM pg_temp.staged_removed AS r JOIN fleetform.device AS d ON d.device_id = r.device_id
WHERE r.policy = 'block';
