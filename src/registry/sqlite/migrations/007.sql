-- Kept files that were not compared with the results branch yet: looked for at each reconcile, and few.
CREATE INDEX kept_file_uncompared ON kept_file (path) WHERE blob_id IS NULL;
