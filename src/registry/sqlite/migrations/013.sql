-- Sessions of devices that outlive a connection: what each listens to, as the sum of 1 for methods, 2 for desired
-- properties, 4 for messages, and 8 for a device that does not acknowledge messages.
CREATE TABLE device_session (
    device_id     TEXT PRIMARY KEY,
    subscriptions INTEGER NOT NULL
) WITHOUT ROWID;

-- When devices connected, or a connection ended, in microseconds since 1970: the newest ones of each.
CREATE TABLE device_connection (
    device_id TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    is_online INTEGER NOT NULL,
    PRIMARY KEY (device_id, at)
) WITHOUT ROWID;

CREATE TRIGGER device_session_deleted AFTER DELETE ON device BEGIN
    DELETE FROM device_session WHERE device_id = old.device_id;
    DELETE FROM device_connection WHERE device_id = old.device_id;
END;
