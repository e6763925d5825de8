-- Parts of long inbound messages that were acknowledged before their message was whole, and, as number 0, which messages
-- were stored since: a part that comes again then is no new message.

CREATE TABLE inbound_part (
    carrier     text COLLATE "C" NOT NULL,
    sender      text COLLATE "C" NOT NULL,
    recipient   text COLLATE "C" NOT NULL,
    reference   integer NOT NULL,
    total       smallint NOT NULL,
    number      smallint NOT NULL,
    data_coding smallint NOT NULL,
    octets      bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (carrier, sender, recipient, reference, total, number)
);
CREATE INDEX inbound_part_received_at ON inbound_part (received_at);
