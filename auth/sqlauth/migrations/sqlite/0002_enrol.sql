-- min_compatible: 1

-- Older programs do not know the role of an enroller and refuse its key, as they should. SQLite changes no CHECK of a table, so it is made anew.
CREATE TABLE {schema}.auth_key_new (
    id           TEXT      NOT NULL PRIMARY KEY CHECK (length(id) = 24 AND id NOT GLOB '*[^0-9a-v]*'),
    kind         TEXT      NOT NULL,
    hash         BLOB      NOT NULL CHECK (typeof(hash) = 'blob' AND length(hash) = 32),
    name         TEXT      NOT NULL CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 200),
    role         TEXT      NOT NULL,
    project      TEXT      NOT NULL CHECK (length(project) <= 63),
    pools        TEXT      NOT NULL CHECK (json_type(pools) = 'array' AND json_array_length(pools) <= 64),
    worker       TEXT      NOT NULL CHECK (length(worker) <= 63),
    created_at   TIMESTAMP NOT NULL,
    expires_at   TIMESTAMP,
    revoked_at   TIMESTAMP,
    last_used_at TIMESTAMP,
    uses         INTEGER,
    enrolled_by  TEXT,
    enrolled_nth INTEGER   CHECK (enrolled_nth >= 0),
    CHECK (kind = CASE WHEN role IN ('admin', 'submitter', 'viewer') THEN 'api' WHEN role = 'worker' THEN 'worker' WHEN role = 'enroller' THEN 'enrol' ELSE '' END),
    CHECK ((project <> '') = (role IN ('submitter', 'viewer'))),
    CHECK ((worker <> '') = (role IN ('worker', 'enroller'))),
    CHECK (CASE WHEN role IN ('worker', 'enroller') THEN json_array_length(pools) > 0 WHEN role = 'submitter' THEN 1 ELSE json_array_length(pools) = 0 END),
    CHECK (CASE role WHEN 'enroller' THEN coalesce(uses BETWEEN 1 AND 10000 AND expires_at IS NOT NULL, 0) ELSE uses IS NULL END),
    CHECK ((enrolled_by IS NULL) = (enrolled_nth IS NULL) AND (enrolled_by IS NULL OR role = 'worker'))
) WITHOUT ROWID;

INSERT INTO {schema}.auth_key_new (id, kind, hash, name, role, project, pools, worker, created_at, expires_at, revoked_at, last_used_at)
SELECT id, kind, hash, name, role, project, pools, worker, created_at, expires_at, revoked_at, last_used_at FROM {schema}.auth_key;

DROP TABLE {schema}.auth_key;

ALTER TABLE {schema}.auth_key_new RENAME TO auth_key;

CREATE INDEX {schema}.auth_key_project ON auth_key (project, id);

-- The fences of an exchange: a use is spent once, an exchange has one outcome, and a worker is enrolled once.
CREATE UNIQUE INDEX {schema}.auth_key_enrolled_nth ON auth_key (enrolled_by, enrolled_nth) WHERE enrolled_by IS NOT NULL;
CREATE UNIQUE INDEX {schema}.auth_key_enrolled_hash ON auth_key (enrolled_by, hash) WHERE enrolled_by IS NOT NULL AND revoked_at IS NULL;
CREATE UNIQUE INDEX {schema}.auth_key_enrolled_worker ON auth_key (worker) WHERE enrolled_by IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX {schema}.auth_key_by_worker ON auth_key (worker) WHERE role = 'worker';
