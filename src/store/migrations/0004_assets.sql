-- Where an asset comes from: the inference that made it, what was asked of the model, its ancestors, and the asset that it
-- is a copy of.
ALTER TABLE asset ADD COLUMN inference_id TEXT;
ALTER TABLE asset ADD COLUMN generation TEXT; -- JSON object: prompt, seed, guidance and so on; NULL for what was not generated
ALTER TABLE asset ADD COLUMN root_parent_id TEXT;
ALTER TABLE asset ADD COLUMN original_asset_id TEXT;
ALTER TABLE asset ADD COLUMN source_project_id TEXT;
ALTER TABLE asset ADD COLUMN copied_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE asset ADD COLUMN collection_ids TEXT NOT NULL DEFAULT '[]';

-- A list in either order is one walk along an index, whatever it is filtered by.
CREATE INDEX asset_updated ON asset (project_id, updated_at DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX asset_author ON asset (project_id, author_id, created_at DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX asset_author_updated ON asset (project_id, author_id, updated_at DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX asset_type ON asset (project_id, type, created_at DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX asset_type_updated ON asset (project_id, type, updated_at DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX asset_model_updated ON asset (model_id, updated_at DESC, id DESC) WHERE model_id IS NOT NULL;
CREATE INDEX asset_inference ON asset (inference_id, created_at DESC, id DESC) WHERE inference_id IS NOT NULL;
CREATE INDEX asset_inference_updated ON asset (inference_id, updated_at DESC, id DESC) WHERE inference_id IS NOT NULL;
CREATE INDEX asset_parent ON asset (parent_id, created_at DESC, id DESC) WHERE parent_id IS NOT NULL;
CREATE INDEX asset_parent_updated ON asset (parent_id, updated_at DESC, id DESC) WHERE parent_id IS NOT NULL;
CREATE INDEX asset_root ON asset (root_parent_id, created_at DESC, id DESC) WHERE root_parent_id IS NOT NULL;
CREATE INDEX asset_root_updated ON asset (root_parent_id, updated_at DESC, id DESC) WHERE root_parent_id IS NOT NULL;

-- created_at and updated_at are the asset's, so that a page needs no sorting.
CREATE TABLE collection_asset (
    collection_id TEXT NOT NULL,
    asset_id TEXT NOT NULL REFERENCES asset (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (collection_id, asset_id)
);
CREATE INDEX collection_asset_page ON collection_asset (collection_id, created_at DESC, asset_id DESC);
CREATE INDEX collection_asset_updated ON collection_asset (collection_id, updated_at DESC, asset_id DESC);
CREATE INDEX collection_asset_asset ON collection_asset (asset_id);

-- Both belong to their model, whoever owns it. model.example_asset_ids says the same as model_example, for lists.
CREATE TABLE model_description (
    model_id TEXT PRIMARY KEY REFERENCES model (id) ON DELETE CASCADE,
    value TEXT NOT NULL
);
CREATE TABLE model_example (
    model_id TEXT NOT NULL REFERENCES model (id) ON DELETE CASCADE,
    asset_id TEXT NOT NULL REFERENCES asset (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    PRIMARY KEY (model_id, asset_id)
);
CREATE INDEX model_example_position ON model_example (model_id, position);
CREATE INDEX model_example_asset ON model_example (asset_id);
CREATE INDEX model_thumbnail ON model (thumbnail_asset_id) WHERE thumbnail_asset_id IS NOT NULL;

CREATE INDEX job_author_page ON job (project_id, author_id, created_at DESC, id DESC);

-- A page of jobs of one type in one state is one walk along an index.
CREATE INDEX job_type_status_page ON job (project_id, type, status, created_at DESC, id DESC);

-- What public models show: thumbnail, training images, examples. domain/model_index.h keeps it; the dates are the asset's.
CREATE TABLE shown_asset (
    model_id TEXT NOT NULL REFERENCES model (id) ON DELETE CASCADE,
    asset_id TEXT NOT NULL REFERENCES asset (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (model_id, asset_id)
);
CREATE INDEX shown_asset_created ON shown_asset (created_at DESC, asset_id DESC);
CREATE INDEX shown_asset_updated ON shown_asset (updated_at DESC, asset_id DESC);
CREATE INDEX shown_asset_asset ON shown_asset (asset_id);

INSERT INTO shown_asset (model_id, asset_id, created_at, updated_at)
SELECT s.model_id, a.id, a.created_at, a.updated_at FROM (
    SELECT model_id, asset_id FROM training_image
    UNION SELECT model_id, asset_id FROM model_example
    UNION SELECT id, thumbnail_asset_id FROM model WHERE thumbnail_asset_id IS NOT NULL) AS s
JOIN model m ON m.id = s.model_id JOIN asset a ON a.id = s.asset_id
WHERE m.privacy = 'public' AND m.deleted_at = 0 AND a.deleted_at = 0;
