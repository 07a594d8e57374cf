-- Of a schedule's occurrence: the spec of its job as it was claimed, canonical JSON. NULL for a job of its own, whose spec is in its document,
-- and in rows that were written before.
ALTER TABLE run ADD COLUMN spec TEXT;
-- Of a run that assigns an edge manifest: the digest of that as it was claimed.
ALTER TABLE run ADD COLUMN edge_manifest_digest TEXT;
