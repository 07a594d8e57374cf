-- Of the content of the edge manifest that the device has, 64 hex digits. NULL in rows that were written before: not known, so the next
-- job that assigns one writes them.
ALTER TABLE device ADD COLUMN edge_manifest_digest TEXT;
