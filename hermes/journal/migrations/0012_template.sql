-- Texts that a tenant stored, with variables, in several languages. A version never changes.

CREATE TABLE template (
    tenant     text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    version    integer NOT NULL,
    id         text COLLATE "C" NOT NULL,        -- the same for all versions
    body       text NOT NULL,                    -- JSON, as the API shows it
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, name, version)
);
