-- Times are UTC milliseconds, truth is 0 or 1, JSON and hashes are text. Every row of a tenant names its project.
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE team (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE project (
    id TEXT PRIMARY KEY,
    team_id TEXT NOT NULL REFERENCES team (id),
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX project_name ON project (team_id, name);

CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id),
    secret_sha256 TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL DEFAULT 0
);

-- Bytes in the blob store; a row is written before its file may be relied on and removed before the file is.
CREATE TABLE blob (
    sha256 TEXT PRIMARY KEY,
    size BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE asset (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id),
    author_id TEXT NOT NULL,
    blob_sha256 TEXT NOT NULL REFERENCES blob (sha256),
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    automatic_captioning TEXT NOT NULL DEFAULT '',
    mime_type TEXT NOT NULL,
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'image',
    size BIGINT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    parent_id TEXT,
    hide BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX asset_page ON asset (project_id, created_at DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX asset_blob ON asset (blob_sha256);

-- The columns of a model that a list row needs are here, its first three training images too (preview), so that a page
-- is one query.
CREATE TABLE model (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id),
    author_id TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    short_description TEXT NOT NULL DEFAULT '',
    type TEXT NOT NULL,
    base_model_id TEXT,
    class_slug TEXT,
    status TEXT NOT NULL,
    privacy TEXT NOT NULL DEFAULT 'private',
    source TEXT NOT NULL DEFAULT 'scenario',
    parent_model_id TEXT,
    epoch TEXT,
    prompt_embedding TEXT,
    negative_prompt_embedding TEXT,
    thumbnail_asset_id TEXT,
    training_image_count BIGINT NOT NULL DEFAULT 0,
    training_image_preview TEXT NOT NULL DEFAULT '[]',
    capabilities TEXT NOT NULL DEFAULT '[]',
    tags TEXT NOT NULL DEFAULT '[]',
    collection_ids TEXT NOT NULL DEFAULT '[]',
    example_asset_ids TEXT NOT NULL DEFAULT '[]',
    concepts TEXT,
    parameters TEXT NOT NULL DEFAULT '{}',
    training_progress TEXT NOT NULL DEFAULT '{}',
    training_stats TEXT,
    epochs TEXT,
    weights_sha256 TEXT REFERENCES blob (sha256),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX model_page ON model (project_id, created_at DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX model_status_page ON model (project_id, status, created_at DESC, id DESC) WHERE deleted_at = 0;
CREATE INDEX model_deleted_page ON model (project_id, created_at DESC, id DESC) WHERE deleted_at > 0;
CREATE INDEX model_weights ON model (weights_sha256) WHERE weights_sha256 IS NOT NULL;

-- Files that a training made for a model: epochs and the final weights (kind weights), sample pictures (kind sample).
CREATE TABLE model_file (
    model_id TEXT NOT NULL REFERENCES model (id),
    project_id TEXT NOT NULL REFERENCES project (id),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    epoch TEXT NOT NULL DEFAULT '',
    blob_sha256 TEXT NOT NULL REFERENCES blob (sha256),
    size BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (model_id, name)
);
CREATE INDEX model_file_blob ON model_file (blob_sha256);

CREATE TABLE training_image (
    model_id TEXT NOT NULL REFERENCES model (id),
    asset_id TEXT NOT NULL REFERENCES asset (id),
    project_id TEXT NOT NULL REFERENCES project (id),
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (model_id, asset_id)
);
CREATE INDEX training_image_position ON training_image (model_id, position);
CREATE INDEX training_image_asset ON training_image (asset_id);

CREATE TABLE training_pair (
    model_id TEXT NOT NULL REFERENCES model (id),
    project_id TEXT NOT NULL REFERENCES project (id),
    position BIGINT NOT NULL,
    source_id TEXT NOT NULL,
    target_id TEXT NOT NULL,
    instruction TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (model_id, position)
);

CREATE TABLE job (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id),
    author_id TEXT NOT NULL,
    model_id TEXT REFERENCES model (id),
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    status_history TEXT NOT NULL DEFAULT '[]',
    progress DOUBLE PRECISION NOT NULL DEFAULT 0,
    metadata TEXT NOT NULL DEFAULT '{}',
    input TEXT NOT NULL DEFAULT '{}',      -- what to run, resolved at launch; secrets never
    attempts BIGINT NOT NULL DEFAULT 0,    -- times a process was started
    handle TEXT NOT NULL DEFAULT '',       -- the executor's name for the running process
    event_offset BIGINT NOT NULL DEFAULT 0, -- bytes of events.ndjson already taken in
    cancel_requested BIGINT NOT NULL DEFAULT 0,
    not_before BIGINT NOT NULL DEFAULT 0,  -- a retry waits until then
    queued_at BIGINT NOT NULL DEFAULT 0,
    started_at BIGINT NOT NULL DEFAULT 0,
    ended_at BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX job_page ON job (project_id, created_at DESC, id DESC);
CREATE INDEX job_status_page ON job (project_id, status, created_at DESC, id DESC);
CREATE INDEX job_type_page ON job (project_id, type, created_at DESC, id DESC);
CREATE INDEX job_queue ON job (queued_at, id) WHERE status IN ('pending', 'queued', 'warming-up', 'in-progress', 'finalizing');
CREATE INDEX job_model ON job (model_id);
