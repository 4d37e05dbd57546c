-- The truth about an item's tags is its own row, in the order in which they were added. item_tag is the index of it that
-- lists filter by, and tag counts what carries a name in a project. All three change in one write.
ALTER TABLE asset ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';

CREATE TABLE tag (
    project_id TEXT NOT NULL REFERENCES project (id),
    name TEXT NOT NULL,
    item_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, name)
);

-- Of models and assets that are not deleted. It keeps the item's date of creation, so that a page by tag is one walk.
CREATE TABLE item_tag (
    item_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- model or asset
    project_id TEXT NOT NULL REFERENCES project (id),
    item_created_at BIGINT NOT NULL,
    PRIMARY KEY (item_id, name)
);
CREATE INDEX item_tag_page ON item_tag (kind, name, item_created_at DESC, item_id DESC);
CREATE INDEX item_tag_project_page ON item_tag (project_id, kind, name, item_created_at DESC, item_id DESC);

-- Where an asset comes from. The model that it was generated with, and the job that did it; the model into whose data set
-- it was uploaded. These models may be gone: an asset that others need outlives them.
ALTER TABLE asset ADD COLUMN model_id TEXT;
ALTER TABLE asset ADD COLUMN job_id TEXT;
ALTER TABLE asset ADD COLUMN dataset_model_id TEXT;
CREATE INDEX asset_model_page ON asset (model_id, created_at DESC, id DESC) WHERE model_id IS NOT NULL;
CREATE INDEX asset_dataset_model ON asset (dataset_model_id) WHERE dataset_model_id IS NOT NULL;
