-- What an operator set while the node ran, beside the settings file: carriers, their rates, routes.

CREATE TABLE live_setting (
    kind       text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    body       text NOT NULL,                    -- JSON or CSV; nothing secret
    sealed     bytea,                            -- what is secret, under the node's key file
    created_at timestamptz NOT NULL,
    PRIMARY KEY (kind, name)
);
