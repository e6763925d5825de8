-- What somebody writes to one of our numbers, and who wrote to them.

CREATE TABLE inbound (
    inbound_id         text COLLATE "C" PRIMARY KEY,
    tenant             text COLLATE "C",         -- null: nobody's
    carrier            text COLLATE "C" NOT NULL,
    carrier_message_id text COLLATE "C",         -- null: the carrier gives none
    received_at        timestamptz NOT NULL,
    body               text NOT NULL             -- JSON of hermes.domain.inbound.Inbound
);
CREATE UNIQUE INDEX inbound_once ON inbound (carrier, carrier_message_id) WHERE carrier_message_id IS NOT NULL;
CREATE INDEX inbound_tenant ON inbound (tenant, inbound_id);
CREATE INDEX inbound_received_at ON inbound (received_at);

-- A hash of the number a message goes to; null: it goes to none, or was written before this column was.
ALTER TABLE message ADD COLUMN recipient bigint;
CREATE INDEX message_recipient ON message (recipient, message_id) WHERE recipient IS NOT NULL;
