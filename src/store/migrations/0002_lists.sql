-- The order of public lists, by what domain/model_index.h says; larger is earlier.
ALTER TABLE model ADD COLUMN score BIGINT NOT NULL DEFAULT 0;
ALTER TABLE model ADD COLUMN copy_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE model ADD COLUMN download_count BIGINT NOT NULL DEFAULT 0;
UPDATE model SET score = created_at / 1000 + CASE WHEN status = 'trained' THEN 2592000 ELSE 0 END
    + CASE WHEN thumbnail_asset_id IS NOT NULL OR training_image_count > 0 THEN 604800 ELSE 0 END;

CREATE INDEX model_status_score ON model (project_id, status, score DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX model_deleted_score ON model (project_id, score DESC, id DESC) WHERE deleted_at > 0;

-- Public lists cross projects. One index an order for all of them, one for those of given types and states.
CREATE INDEX model_public_created ON model (created_at DESC, id DESC) WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX model_public_updated ON model (updated_at DESC, id DESC) WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX model_public_score ON model (score DESC, id DESC) WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX model_public_type_created ON model (type, status, created_at DESC, id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX model_public_type_updated ON model (type, status, updated_at DESC, id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX model_public_type_score ON model (type, status, score DESC, id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;

-- A row for each tag ("tag:castle") and collection ("collection:ID") of a model, with copies of the columns that lists
-- filter and order by, so that each filter is one range of one index. The key over those columns lets the database
-- keep the copies itself: whoever updates a model updates its labels too (ON UPDATE CASCADE), and who deletes it
-- deletes them.
CREATE UNIQUE INDEX model_listed ON model (id, project_id, privacy, type, status, deleted_at, created_at, updated_at, score);
CREATE TABLE model_label (
    model_id TEXT NOT NULL,
    label TEXT NOT NULL,
    project_id TEXT NOT NULL,
    privacy TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    deleted_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    score BIGINT NOT NULL,
    PRIMARY KEY (model_id, label),
    FOREIGN KEY (model_id, project_id, privacy, type, status, deleted_at, created_at, updated_at, score)
        REFERENCES model (id, project_id, privacy, type, status, deleted_at, created_at, updated_at, score)
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX label_created ON model_label (project_id, label, status, created_at DESC, model_id DESC) WHERE deleted_at = 0;
CREATE INDEX label_score ON model_label (project_id, label, status, score DESC, model_id DESC) WHERE deleted_at = 0;
CREATE INDEX label_deleted_created ON model_label (project_id, label, created_at DESC, model_id DESC) WHERE deleted_at > 0;
CREATE INDEX label_deleted_score ON model_label (project_id, label, score DESC, model_id DESC) WHERE deleted_at > 0;
CREATE INDEX label_public_created ON model_label (label, created_at DESC, model_id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX label_public_updated ON model_label (label, updated_at DESC, model_id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX label_public_score ON model_label (label, score DESC, model_id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX label_public_type_created ON model_label (label, type, status, created_at DESC, model_id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX label_public_type_updated ON model_label (label, type, status, updated_at DESC, model_id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;
CREATE INDEX label_public_type_score ON model_label (label, type, status, score DESC, model_id DESC)
    WHERE privacy = 'public' AND deleted_at = 0;

-- The collections that models were put into at creation: their ids, taken from a JSON array of strings.
INSERT INTO model_label
WITH RECURSIVE piece (model_id, text, at, start) AS (
    SELECT id, collection_ids, 1, 0 FROM model WHERE collection_ids <> '[]'
    UNION ALL
    SELECT model_id, text, at + 1,
        CASE WHEN substr(text, at, 1) <> '"' THEN start WHEN start = 0 THEN at + 1 ELSE 0 END
    FROM piece WHERE at <= length(text)
)
SELECT DISTINCT m.id, 'collection:' || substr(p.text, p.start, p.at - p.start), m.project_id, m.privacy, m.type, m.status,
    m.deleted_at, m.created_at, m.updated_at, m.score
FROM piece p JOIN model m ON m.id = p.model_id WHERE p.start > 0 AND substr(p.text, p.at, 1) = '"';
