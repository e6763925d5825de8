-- The journal. Ids are text in the "C" collation: they sort by the bytes, and so by time.
-- `message`, `closed_message` and `event` lie in partitions of one UTC day, the day the message's id was made;
-- rows there are only ever added, and leave when the whole day is dropped. What moves is in `open_message`.

CREATE TABLE worker (
    id                 text COLLATE "C" PRIMARY KEY,
    host               text NOT NULL,            -- names the pid namespace, so that `pid` means something
    pid                integer NOT NULL,
    process_started_at text NOT NULL,
    started_at         timestamptz NOT NULL,
    lease_until        timestamptz NOT NULL,     -- by the database's clock
    dead               boolean NOT NULL DEFAULT false,
    dead_at            timestamptz,
    gone               boolean NOT NULL DEFAULT false  -- declared dead because its process was no more
) WITH (fillfactor = 50);

CREATE TABLE shard (
    id    smallint PRIMARY KEY,
    owner text COLLATE "C",
    epoch bigint NOT NULL DEFAULT 0
);
INSERT INTO shard (id) SELECT generate_series(0, 63);

-- One row a committed batch: tells a writer that lost its connection whether its last batch is in.
CREATE TABLE batch (
    worker text COLLATE "C" NOT NULL,
    n      bigint NOT NULL,
    PRIMARY KEY (worker, n)
);

CREATE TABLE message (
    message_id text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    mode       text COLLATE "C" NOT NULL,
    reference  text COLLATE "C",
    channels   smallint NOT NULL,                -- bit mask: 1 email, 2 sms, 4 push, 8 whatsapp
    created_at timestamptz NOT NULL,
    body       text NOT NULL,                    -- JSON of hermes.domain.message.Message
    PRIMARY KEY (message_id, day)
) PARTITION BY RANGE (day);
CREATE INDEX message_tenant ON message (tenant, message_id);
CREATE INDEX message_reference ON message (tenant, reference, message_id) WHERE reference IS NOT NULL;

-- Every message that is not final has a row here and nowhere else.
CREATE TABLE open_message (
    shard      smallint NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    due        timestamptz,                      -- when to look at it; null: hot, an actor holds it
    PRIMARY KEY (shard, message_id)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 10000,
        autovacuum_vacuum_insert_threshold = -1);
CREATE INDEX open_message_due ON open_message (due, shard) WHERE due IS NOT NULL;

CREATE TABLE closed_message (
    message_id text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    status     text COLLATE "C" NOT NULL,
    closed_at  timestamptz NOT NULL,             -- first final status; a correction does not move it
    PRIMARY KEY (message_id, day)
) PARTITION BY RANGE (day);

CREATE TABLE event (
    message_id text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    seq        integer NOT NULL,
    at         timestamptz NOT NULL,
    type       text COLLATE "C" NOT NULL,
    step       smallint,
    attempt    integer,
    data       text NOT NULL,                    -- JSON
    PRIMARY KEY (message_id, seq, day)
) PARTITION BY RANGE (day);

-- A carrier's id for a message or segment -> the attempt. Partitioned by the day it was written.
CREATE TABLE carrier_ref (
    ref        text COLLATE "C" NOT NULL,
    carrier    text COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    step       smallint NOT NULL,
    attempt    integer NOT NULL,
    segment    smallint NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX carrier_ref_ref ON carrier_ref (ref, carrier, at);

CREATE TABLE idempotency (
    tenant       text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    request_hash bytea NOT NULL,
    response     text NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_created_at ON idempotency (created_at);

CREATE TABLE outbox (
    message_id text COLLATE "C" NOT NULL,
    seq        integer NOT NULL,
    target     text COLLATE "C" NOT NULL,
    shard      smallint NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    type       text COLLATE "C" NOT NULL,
    due        timestamptz NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    payload    text,
    last_error text,
    dead_at    timestamptz,
    PRIMARY KEY (message_id, seq, target)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 10000,
        autovacuum_vacuum_insert_threshold = -1);
CREATE INDEX outbox_due ON outbox (tenant, due) WHERE dead_at IS NULL;
CREATE INDEX outbox_dead ON outbox (tenant, message_id, seq, target) WHERE dead_at IS NOT NULL;

CREATE TABLE parked_receipt (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ref       text NOT NULL,
    receipt   text NOT NULL,                     -- JSON of hermes.domain.receipt.DeliveryReceipt
    stored_at timestamptz NOT NULL
);

CREATE TABLE tenant (
    id                    text COLLATE "C" PRIMARY KEY,
    name                  text NOT NULL,
    status                text NOT NULL,
    created_at            timestamptz NOT NULL,
    secret                text NOT NULL,
    previous_secret       text,
    previous_secret_until timestamptz,
    settings              text NOT NULL          -- JSON
);

CREATE TABLE api_key (
    id           text COLLATE "C" PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL,
    key_hash     bytea NOT NULL,
    prefix       text NOT NULL,
    mode         text NOT NULL,
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    allow_from   text[] NOT NULL,
    last_used_at timestamptz
);

CREATE TABLE endpoint (
    id          text COLLATE "C" PRIMARY KEY,
    tenant      text COLLATE "C" NOT NULL,
    url         text NOT NULL,
    events      text[] NOT NULL,
    secret      text NOT NULL,
    created_at  timestamptz NOT NULL,
    disabled_at timestamptz
);
