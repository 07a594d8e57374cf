-- What was said of single devices and not by an import, which makes no row: when one was made (16 hex digits), and why and when,
-- in microseconds since 1970, it was blocked or unblocked.
CREATE TABLE device_status (
    device_id  TEXT PRIMARY KEY,
    generation TEXT,
    reason     TEXT,
    updated_at INTEGER
) WITHOUT ROWID;

CREATE TRIGGER device_status_deleted AFTER DELETE ON device BEGIN
    DELETE FROM device_status WHERE device_id = old.device_id;
END;

-- Devices are counted without reading their twins: those that are connected here, those that are blocked by `device_blocked`, and
-- all of them by a number that whoever makes or deletes devices keeps.
CREATE INDEX device_connected ON device (device_id) WHERE connection_state = 'Connected';
INSERT OR REPLACE INTO meta (key, value) SELECT 'devices', CAST(count(*) AS TEXT) FROM device;
