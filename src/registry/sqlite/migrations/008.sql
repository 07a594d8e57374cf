-- The devices of the first batch of a run, where they are not as many as of the others (`delivery.canary`); NULL of runs
-- from before.
ALTER TABLE run ADD COLUMN first_batch INTEGER;
