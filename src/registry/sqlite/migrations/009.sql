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

-- Devices are counted without reading their twins: those that are connected or blocked in indexes that have all that is asked for, and
-- all of them by a number that whoever makes or deletes devices keeps.
CREATE INDEX device_connected ON device (connection_state, device_id) WHERE connection_state = 'Connected';
DROP INDEX device_blocked;
CREATE INDEX device_blocked ON device (blocked, device_id) WHERE blocked = 1;
INSERT OR REPLACE INTO meta (key, value) SELECT 'devices', CAST(count(*) AS TEXT) FROM device;
