-- 1 for a run whose devices' answers are kept whole.
ALTER TABLE run ADD COLUMN keeps_answers INTEGER NOT NULL DEFAULT 0;

-- What devices answered to such runs, whole, beside the outcome. Times are microseconds since 1970.
CREATE TABLE answer (
    run_id  INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    code    INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    payload BLOB    NOT NULL,
    PRIMARY KEY (run_id, ordinal)
) WITHOUT ROWID;
