-- The truth about an item's tags is its own row, in the order in which they were added. Lists filter by an index of it
-- (model_label, asset_tag), and tag counts what carries a name in a project. All of them change in one write.
ALTER TABLE asset ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';

CREATE TABLE tag (
    project_id TEXT NOT NULL REFERENCES project (id),
    name TEXT NOT NULL,
    item_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, name)
);

-- Of assets that are not deleted; models have model_label.
CREATE TABLE asset_tag (
    asset_id TEXT NOT NULL REFERENCES asset (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (asset_id, name)
);

-- Where an asset comes from. The model that it was generated with, and the job that did it; the model into whose data set
-- it was uploaded. These models may be gone: an asset that others need outlives them.
ALTER TABLE asset ADD COLUMN model_id TEXT;
ALTER TABLE asset ADD COLUMN job_id TEXT;
ALTER TABLE asset ADD COLUMN dataset_model_id TEXT;
CREATE INDEX asset_model_page ON asset (model_id, created_at DESC, id DESC) WHERE model_id IS NOT NULL;
CREATE INDEX asset_dataset_model ON asset (dataset_model_id) WHERE dataset_model_id IS NOT NULL;

-- The few assets with a rare tag are found by it.
CREATE INDEX asset_tag_name ON asset_tag (name, asset_id);
