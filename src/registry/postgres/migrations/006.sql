-- Sessions of devices that outlive a connection: what each listens to, as the sum of 1 for methods, 2 for desired
-- properties, 4 for messages, and 8 for a device that does not acknowledge messages.
CREATE TABLE device_session (
    device_id     text COLLATE "C" PRIMARY KEY,
    subscriptions smallint NOT NULL
);

-- When devices connected, or a connection ended, in microseconds since 1970: the newest ones of each.
CREATE TABLE device_connection (
    device_id text COLLATE "C" NOT NULL,
    at        bigint  NOT NULL,
    is_online boolean NOT NULL,
    PRIMARY KEY (device_id, at)
);

CREATE OR REPLACE FUNCTION note_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM run WHERE NOT is_closed) THEN
        INSERT INTO deleted_device (device_id, device_name) SELECT device_id, device_name FROM gone
        ON CONFLICT (device_id) DO UPDATE SET device_name = excluded.device_name;
    END IF;
    DELETE FROM left_device USING gone WHERE left_device.device_id = gone.device_id;
    DELETE FROM device_status USING gone WHERE device_status.device_id = gone.device_id;
    DELETE FROM message USING gone WHERE message.device_id = gone.device_id;
    DELETE FROM device_session USING gone WHERE device_session.device_id = gone.device_id;
    DELETE FROM device_connection USING gone WHERE device_connection.device_id = gone.device_id;
    RETURN NULL;
END $$;
