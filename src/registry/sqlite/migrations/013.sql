-- Sessions of devices that outlive a connection: what each listens to, as the sum of 1 for methods, 2 for desired
-- properties, 4 for messages, and 8 for a device that does not acknowledge messages.
CREATE TABLE device_session (
    device_id     TEXT PRIMARY KEY,
    subscriptions INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER device_session_deleted AFTER DELETE ON device BEGIN
    DELETE FROM device_session WHERE device_id = old.device_id;
END;
