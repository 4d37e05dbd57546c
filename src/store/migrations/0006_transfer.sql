-- Whose models a team takes over when they are transferred to a project of it. Its own it always takes.
CREATE TABLE team_acceptance (
    team_id TEXT NOT NULL REFERENCES team (id),
    from_team_id TEXT NOT NULL REFERENCES team (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, from_team_id)
);

-- The record of the training that made the weights, in a copy that has no training job of its own; JSON of the job.
ALTER TABLE model ADD COLUMN training_record TEXT;

-- What a purge looks for.
CREATE INDEX model_purge ON model (deleted_at) WHERE deleted_at > 0;
CREATE INDEX asset_purge ON asset (deleted_at) WHERE deleted_at > 0;
