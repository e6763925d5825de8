-- What each tenant used, by the day its messages were created: added up in the statement that makes a message final.

CREATE TABLE usage (
    tenant      text COLLATE "C" NOT NULL,
    day         date NOT NULL,
    mode        text COLLATE "C" NOT NULL,
    channel     text COLLATE "C" NOT NULL,
    carrier     text COLLATE "C" NOT NULL,       -- '': no carrier was asked
    status      text COLLATE "C" NOT NULL,       -- how the messages ended
    worker      text COLLATE "C" NOT NULL,       -- who adds to this row; '': nobody any more
    messages    bigint NOT NULL,
    attempts    bigint NOT NULL,
    segments    bigint NOT NULL,
    cost_micros bigint NOT NULL,                 -- millionths
    PRIMARY KEY (tenant, day, mode, channel, carrier, status, worker)
) WITH (fillfactor = 50);
