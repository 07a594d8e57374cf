-- Of a run with devices that may wait: its open batch, from 0, and when that was opened, in microseconds since 1970.
ALTER TABLE run ADD COLUMN batch INTEGER;
ALTER TABLE run ADD COLUMN batch_opened_at INTEGER;

-- The names of devices that were deleted while a run was open: its results have them still.
CREATE TABLE deleted_device (
    device_id   TEXT PRIMARY KEY,
    device_name TEXT NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER device_deleted AFTER DELETE ON device WHEN EXISTS (SELECT 1 FROM run WHERE is_closed = 0) BEGIN
    INSERT OR REPLACE INTO deleted_device (device_id, device_name) VALUES (old.device_id, old.device_name);
END;

CREATE TRIGGER run_closed AFTER UPDATE OF is_closed ON run WHEN new.is_closed = 1 BEGIN
    DELETE FROM deleted_device WHERE NOT EXISTS (SELECT 1 FROM run WHERE is_closed = 0);
END;

-- Which registry this is, 32 hex digits; and how often devices were marked as sent: a copy that is put back has fewer.
INSERT OR IGNORE INTO meta (key, value) VALUES ('identity', lower(hex(randomblob(16)))), ('sends', '0');
