-- Kept files that were not compared with the results branch yet: looked for at each reconcile, and few.
CREATE INDEX kept_file_uncompared ON kept_file (path) WHERE blob_id IS NULL;

-- Devices that are blocked because their row left the file of their import: they are unblocked when it comes back.
CREATE TABLE left_device (
    device_id TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TRIGGER left_device_deleted AFTER DELETE ON device BEGIN
    DELETE FROM left_device WHERE device_id = old.device_id;
END;
