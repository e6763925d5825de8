-- What signed requests were taken, so that each is taken once by all workers together, also after a restart.
CREATE TABLE nonce (
    hash  bytea PRIMARY KEY,                     -- of the key's id and the nonce
    until timestamptz NOT NULL                   -- what is signed with it is too old then
);
CREATE INDEX nonce_until ON nonce (until);
