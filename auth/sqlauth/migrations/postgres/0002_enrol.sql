-- min_compatible: 1

-- Older programs do not know the role of an enroller and refuse its key, as they should.
ALTER TABLE {schema}.auth_key
    DROP CONSTRAINT auth_key_kind_check,
    DROP CONSTRAINT auth_key_role_check,
    DROP CONSTRAINT auth_key_check,
    DROP CONSTRAINT auth_key_check1,
    DROP CONSTRAINT auth_key_check2,
    DROP CONSTRAINT auth_key_check3,
    ADD COLUMN uses         integer,
    ADD COLUMN enrolled_by  text COLLATE "C",
    ADD COLUMN enrolled_nth integer CHECK (enrolled_nth >= 0),
    ADD CONSTRAINT auth_key_kind CHECK (kind = CASE WHEN role IN ('admin', 'submitter', 'viewer') THEN 'api' WHEN role = 'worker' THEN 'worker' WHEN role = 'enroller' THEN 'enrol' ELSE '' END),
    ADD CONSTRAINT auth_key_project CHECK ((project <> '') = (role IN ('submitter', 'viewer'))),
    ADD CONSTRAINT auth_key_worker CHECK ((worker <> '') = (role IN ('worker', 'enroller'))),
    ADD CONSTRAINT auth_key_pools CHECK (CASE WHEN role IN ('worker', 'enroller') THEN cardinality(pools) > 0 WHEN role = 'submitter' THEN true ELSE cardinality(pools) = 0 END),
    ADD CONSTRAINT auth_key_enroller CHECK (CASE role WHEN 'enroller' THEN coalesce(uses BETWEEN 1 AND 10000 AND expires_at IS NOT NULL, false) ELSE uses IS NULL END),
    ADD CONSTRAINT auth_key_enrolled CHECK ((enrolled_by IS NULL) = (enrolled_nth IS NULL) AND (enrolled_by IS NULL OR role = 'worker'));

-- The fences of an exchange: a use is spent once, an exchange has one outcome, and a worker is enrolled once.
CREATE UNIQUE INDEX auth_key_enrolled_nth ON {schema}.auth_key (enrolled_by, enrolled_nth) WHERE enrolled_by IS NOT NULL;
CREATE UNIQUE INDEX auth_key_enrolled_hash ON {schema}.auth_key (enrolled_by, hash) WHERE enrolled_by IS NOT NULL AND revoked_at IS NULL;
CREATE UNIQUE INDEX auth_key_enrolled_worker ON {schema}.auth_key (worker) WHERE enrolled_by IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX auth_key_by_worker ON {schema}.auth_key (worker) WHERE role = 'worker';
