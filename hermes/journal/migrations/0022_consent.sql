-- Who agreed to be written to, with the proof.

CREATE TABLE consent (
    id           text COLLATE "C" PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL,
    channel      text COLLATE "C" NOT NULL,
    category     text COLLATE "C" NOT NULL,
    recipient    text COLLATE "C" NOT NULL,      -- keyed hash of tenant and address
    address      text,                           -- null once the recipient was erased, as ip
    source       text NOT NULL,
    ip           text,
    text_version text,
    given_at     timestamptz NOT NULL,
    created_at   timestamptz NOT NULL,
    changed_at   timestamptz NOT NULL,
    withdrawn_at timestamptz
);
CREATE INDEX consent_tenant ON consent (tenant, id);
CREATE INDEX consent_recipient ON consent (tenant, recipient, id);
CREATE INDEX consent_changed_at ON consent (changed_at, id);
