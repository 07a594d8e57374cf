-- Of what was claimed: another value with each change of the claims, whoever makes it. Who has compared the claims with the results branch
-- need not do it again while it stays.
INSERT INTO meta (key, value) VALUES ('claims_version', lower(hex(randomblob(16))));

CREATE TRIGGER run_inserted AFTER INSERT ON run BEGIN
    UPDATE meta SET value = lower(hex(randomblob(16))) WHERE key = 'claims_version';
END;

CREATE TRIGGER run_updated AFTER UPDATE OF run_id, job, run, is_claimed, claim ON run BEGIN
    UPDATE meta SET value = lower(hex(randomblob(16))) WHERE key = 'claims_version';
END;

CREATE TRIGGER run_deleted AFTER DELETE ON run BEGIN
    UPDATE meta SET value = lower(hex(randomblob(16))) WHERE key = 'claims_version';
END;

-- Runs are many, and open ones few.
CREATE INDEX run_open ON run (run_id) WHERE is_closed = 0;
