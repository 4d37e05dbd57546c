-- A page of jobs of one type in one state is one walk along an index.
CREATE INDEX job_type_status_page ON job (project_id, type, status, created_at DESC, id DESC);
