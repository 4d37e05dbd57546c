-- The few assets with a rare tag are found by it.
CREATE INDEX asset_tag_name ON asset_tag (name, asset_id);
