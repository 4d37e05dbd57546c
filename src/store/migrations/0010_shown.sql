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
