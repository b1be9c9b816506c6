-- min_compatible: 1

CREATE TABLE {schema}.auth_key (
    id           text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[0-9a-v]{24}$'),
    kind         text        NOT NULL CHECK (kind IN ('api', 'worker')),
    hash         bytea       NOT NULL CHECK (octet_length(hash) = 32),
    name         text        NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    role         text        NOT NULL CHECK (role IN ('admin', 'submitter', 'viewer', 'worker')),
    project      text        NOT NULL CHECK (octet_length(project) <= 63),
    pools        text[]      NOT NULL CHECK (cardinality(pools) <= 64),
    worker       text        NOT NULL CHECK (octet_length(worker) <= 63),
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CHECK ((kind = 'worker') = (role = 'worker')),
    CHECK ((project <> '') = (role IN ('submitter', 'viewer'))),
    CHECK ((worker <> '') = (role = 'worker')),
    CHECK (CASE role WHEN 'worker' THEN cardinality(pools) > 0 WHEN 'submitter' THEN true ELSE cardinality(pools) = 0 END)
);

CREATE INDEX auth_key_project ON {schema}.auth_key (project, id);
