-- True for a run whose devices' answers are kept whole.
ALTER TABLE run ADD COLUMN keeps_answers boolean NOT NULL DEFAULT false;

-- What devices answered to such runs, whole, beside the outcome. Times are microseconds since 1970.
CREATE TABLE answer (
    run_id  bigint NOT NULL,
    ordinal bigint NOT NULL,
    code    integer NOT NULL,
    at      bigint NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (run_id, ordinal)
);
