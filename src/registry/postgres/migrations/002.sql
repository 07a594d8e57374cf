-- What was said of single devices and not by an import, which makes no row: when one was made (16 hex digits), and why
-- and when, in microseconds since 1970, it was blocked or unblocked.
CREATE TABLE device_status (
    device_id  text COLLATE "C" PRIMARY KEY,
    generation text COLLATE "C",
    reason     text COLLATE "C",
    updated_at bigint
);

CREATE OR REPLACE FUNCTION note_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM run WHERE NOT is_closed) THEN
        INSERT INTO deleted_device (device_id, device_name) SELECT device_id, device_name FROM gone
        ON CONFLICT (device_id) DO UPDATE SET device_name = excluded.device_name;
    END IF;
    DELETE FROM left_device USING gone WHERE left_device.device_id = gone.device_id;
    DELETE FROM device_status USING gone WHERE device_status.device_id = gone.device_id;
    RETURN NULL;
END $$;

-- Devices are counted without reading them: those that are connected here, those that are blocked by `device_blocked`,
-- and all of them by a number that whoever makes or deletes devices keeps.
CREATE INDEX device_connected ON device (device_id) WHERE connection_state = 'Connected';
INSERT INTO meta (key, value) SELECT 'devices', count(*)::text FROM device;
