-- min_compatible: 1

CREATE TABLE {schema}.auth_key (
    id           TEXT      NOT NULL PRIMARY KEY CHECK (length(id) = 24 AND id NOT GLOB '*[^0-9a-v]*'),
    kind         TEXT      NOT NULL CHECK (kind IN ('api', 'worker')),
    hash         BLOB      NOT NULL CHECK (typeof(hash) = 'blob' AND length(hash) = 32),
    name         TEXT      NOT NULL CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 200),
    role         TEXT      NOT NULL CHECK (role IN ('admin', 'submitter', 'viewer', 'worker')),
    project      TEXT      NOT NULL CHECK (length(project) <= 63),
    pools        TEXT      NOT NULL CHECK (json_type(pools) = 'array' AND json_array_length(pools) <= 64),
    worker       TEXT      NOT NULL CHECK (length(worker) <= 63),
    created_at   TIMESTAMP NOT NULL,
    expires_at   TIMESTAMP,
    revoked_at   TIMESTAMP,
    last_used_at TIMESTAMP,
    CHECK ((kind = 'worker') = (role = 'worker')),
    CHECK ((project <> '') = (role IN ('submitter', 'viewer'))),
    CHECK ((worker <> '') = (role = 'worker')),
    CHECK (CASE role WHEN 'worker' THEN json_array_length(pools) > 0 WHEN 'submitter' THEN 1 ELSE json_array_length(pools) = 0 END)
) WITHOUT ROWID;

CREATE INDEX {schema}.auth_key_project ON auth_key (project, id);
