-- Who changed what of a tenant, its keys and endpoints; and their rows found by tenant.

CREATE TABLE change (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text NOT NULL,                    -- operator, a key's id, signup, hermes
    request_id text,
    tenant     text COLLATE "C" NOT NULL,
    action     text NOT NULL,
    target     text NOT NULL,
    before     text,                             -- JSON: what differs; never a secret
    after      text
);
CREATE INDEX change_tenant ON change (tenant, id);

CREATE INDEX api_key_tenant ON api_key (tenant);
CREATE INDEX endpoint_tenant ON endpoint (tenant);
