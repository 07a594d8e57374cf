-- How many devices of a batch, from 0, have an outcome, by its reason: what is in `outcome`, counted when that is
-- written. Nobody who only wants to know how far a run is has to read a row for each device.
CREATE TABLE outcome_count (
    run_id  INTEGER NOT NULL,
    batch   INTEGER NOT NULL,
    reason  INTEGER NOT NULL,
    devices INTEGER NOT NULL,
    PRIMARY KEY (run_id, batch, reason)
) WITHOUT ROWID;

INSERT INTO outcome_count (run_id, batch, reason, devices)
SELECT o.run_id,
       CASE WHEN o.ordinal < coalesce(r.first_batch, r.batch_size) THEN 0
            ELSE 1 + (o.ordinal - coalesce(r.first_batch, r.batch_size)) / r.batch_size END,
       o.reason, count(*)
  FROM outcome AS o JOIN run AS r ON r.run_id = o.run_id
 WHERE r.batch_size > 0
 GROUP BY 1, 2, 3;
