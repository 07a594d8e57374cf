-- Messages to devices, in the order in which they are to be delivered, until the device has acknowledged them. A number is never given
-- twice. Times are microseconds since 1970.
CREATE TABLE message (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id  TEXT    NOT NULL,
    message_id TEXT,
    -- A JSON object without white space.
    properties TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 0,
    body       BLOB    NOT NULL
);

CREATE INDEX message_device ON message (device_id, sequence);

CREATE TRIGGER message_deleted AFTER DELETE ON device BEGIN
    DELETE FROM message WHERE device_id = old.device_id;
END;
