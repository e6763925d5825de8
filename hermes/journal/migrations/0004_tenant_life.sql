-- How far a customer who signed up has come, whom to write to, and when a tenant was deleted.

ALTER TABLE tenant
    ADD stage      text NOT NULL DEFAULT 'production',
    ADD email      text,
    ADD deleted_at timestamptz;
UPDATE tenant SET deleted_at = now() WHERE status = 'deleted';
