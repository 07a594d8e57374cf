-- How a device proves who it is, in IoT Hub's words: 'sas', 'selfSigned', 'certificateAuthority' or 'none'. NULL in rows that were
-- written before: 'sas'.
ALTER TABLE device_key ADD COLUMN authentication TEXT;
