-- Recipients a tenant had erased, and those whose turn it is.

CREATE TABLE erasure (
    id         text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    recipient  text COLLATE "C" NOT NULL,        -- keyed hash of tenant and address
    address    text,                             -- null once it is done
    asked_by   text NOT NULL,
    created_at timestamptz NOT NULL,
    messages   bigint NOT NULL,
    inbound    bigint NOT NULL,
    after_id   text COLLATE "C" NOT NULL,        -- messages up to this one are done
    done_at    timestamptz
);
CREATE INDEX erasure_tenant ON erasure (tenant, id);
CREATE INDEX erasure_open ON erasure (id) WHERE done_at IS NULL;

-- When a message's addresses and content were erased; null: they were not.
ALTER TABLE message ADD COLUMN erased_at timestamptz;
