-- What one worker has for the owner of a message (a receipt, a cancel): kept until the owner has done it.
CREATE TABLE errand (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    shard      smallint NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    kind       text NOT NULL,
    body       text NOT NULL,                    -- JSON
    asked_by   text COLLATE "C" NOT NULL,        -- the worker that waits for an answer; '': nobody does
    stored_at  timestamptz NOT NULL,
    PRIMARY KEY (shard, id)
);
