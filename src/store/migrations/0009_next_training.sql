-- 1: parameters were stored for the next training; 0: they are those of the last one.
ALTER TABLE model ADD COLUMN parameters_are_next BIGINT NOT NULL DEFAULT 0;
UPDATE model SET parameters_are_next = 1 WHERE status = 'new' AND parameters <> '{}';
