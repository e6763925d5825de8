-- Who must not be written to. tenant null: for all tenants; channel null: for all channels.
CREATE TABLE suppression (
    id         text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C",
    channel    text COLLATE "C",
    address    text COLLATE "C" NOT NULL,        -- as hermes.domain.address.same_recipient writes it
    reason     text NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE NULLS NOT DISTINCT (tenant, address, channel)
);
CREATE INDEX suppression_tenant ON suppression (tenant, id);
