-- A list's row shows a model's first pairs as it shows its first images.
ALTER TABLE model ADD COLUMN training_pair_preview TEXT NOT NULL DEFAULT '[]';

-- What a plan would allow. NULL: no limit.
ALTER TABLE team ADD COLUMN parallel_training_max BIGINT;
ALTER TABLE team ADD COLUMN training_images_max BIGINT;
ALTER TABLE team ADD COLUMN training_cooldown_s BIGINT;

-- 1: parameters were stored for the next training; 0: they are those of the last one.
ALTER TABLE model ADD COLUMN parameters_are_next BIGINT NOT NULL DEFAULT 0;
UPDATE model SET parameters_are_next = 1 WHERE status = 'new' AND parameters <> '{}';
