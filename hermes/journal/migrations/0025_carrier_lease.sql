-- Which worker holds a carrier's binds: the one that lives and stands here. Nobody else may send by it.
CREATE TABLE carrier_lease (
    carrier text COLLATE "C" PRIMARY KEY,
    owner   text COLLATE "C" NOT NULL,
    epoch   bigint NOT NULL DEFAULT 1,           -- how often it changed hands
    state   text NOT NULL DEFAULT 'up',          -- how the holder finds it, for the others' routing
    reason  text
);
-- What another worker is to send by a carrier it holds: until the outcome is stored as an errand.
CREATE TABLE handover (
    carrier    text COLLATE "C" NOT NULL,
    id         bigint GENERATED ALWAYS AS IDENTITY,
    worker     text COLLATE "C" NOT NULL,        -- who handed it over
    taken_by   text COLLATE "C",                 -- the holder that has it in its hands; null: certainly not sent
    kind       text NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    step       smallint NOT NULL,
    attempt    smallint NOT NULL,
    once       boolean NOT NULL,                 -- policy never: nobody else sends it
    expires_at timestamptz NOT NULL,
    body       text NOT NULL,                    -- JSON
    stored_at  timestamptz NOT NULL,
    PRIMARY KEY (carrier, id)
);
