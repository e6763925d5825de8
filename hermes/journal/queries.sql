-- What the journal says to PostgreSQL. Each query is named by the line above it; queries.py reads this file.

-- name: write_batch
-- One statement, one round trip, one commit. Without a living worker row nothing is written and the answer is
-- false. The share lock makes whoever declares this worker dead wait for this batch.
-- A table's rows come as one text: a line a row, commas between the fields, `null` for none (no `day`: it is $4).
-- Texts that customers or carriers wrote come beside it, in the same order: JSON, which needs no line break, as lines;
-- others as a JSON array. Rows as JSON arrays or records took PostgreSQL a third more or twice as long.
WITH alive AS MATERIALIZED (
    SELECT FROM worker WHERE id = $1 AND NOT dead FOR SHARE
), marked AS (
    INSERT INTO batch (worker, n) SELECT $1, $2::bigint FROM alive RETURNING 1
), messages AS (
    INSERT INTO message (message_id, day, tenant, mode, channels, created_at, recipient, reference, body)
    SELECT f[1], coalesce(nullif(f[2], 'null')::date, $4::date), f[3], f[4], f[5]::smallint, f[6]::timestamptz,
           nullif(f[7], 'null')::bigint, reference, body
    FROM (
        SELECT string_to_array(line, ','), reference, body
        FROM ROWS FROM (unnest(string_to_array($5, E'\n')), json_array_elements_text($6::text::json),
                        unnest(string_to_array($7, E'\n'))) AS r (line, reference, body)
        OFFSET 0
    ) AS m (f, reference, body)
    WHERE EXISTS (SELECT FROM alive)
), opened AS (
    INSERT INTO open_message (shard, message_id, due)
    SELECT f[1]::smallint, f[2], nullif(f[3], 'null')::timestamptz
    FROM (SELECT string_to_array(line, ',') FROM unnest(string_to_array($8, E'\n')) AS r (line) OFFSET 0) AS o (f)
    WHERE EXISTS (SELECT FROM alive)
), events AS (
    INSERT INTO event (message_id, day, seq, at, type, step, attempt, data)
    SELECT f[1], coalesce(nullif(f[2], 'null')::date, $4::date), f[3]::integer, f[4]::timestamptz, f[5],
           nullif(f[6], 'null')::smallint, nullif(f[7], 'null')::integer, data
    FROM (
        SELECT string_to_array(line, ','), data
        FROM unnest(string_to_array($9, E'\n'), string_to_array($10, E'\n')) AS r (line, data)
        OFFSET 0
    ) AS e (f, data)
    WHERE EXISTS (SELECT FROM alive)
), refs AS (
    INSERT INTO carrier_ref (at, message_id, step, attempt, segment, carrier, ref)
    SELECT $3::timestamptz, f[1], f[2]::smallint, f[3]::integer, f[4]::smallint, carrier, ref
    FROM (
        SELECT string_to_array(line, ','), carrier, ref
        FROM ROWS FROM (unnest(string_to_array($11, E'\n')), json_array_elements_text($12::text::json),
                        json_array_elements_text($13::text::json)) AS r (line, carrier, ref)
        OFFSET 0
    ) AS c (f, carrier, ref)
    WHERE EXISTS (SELECT FROM alive)
), deliveries AS (
    INSERT INTO outbox (message_id, seq, shard, tenant, due, created_at, target, type, payload)
    SELECT f[1], f[2]::integer, f[3]::smallint, f[4], f[5]::timestamptz, $3::timestamptz, target, type, payload
    FROM (
        SELECT string_to_array(line, ','), target, type, payload
        FROM ROWS FROM (unnest(string_to_array($14, E'\n')), json_array_elements_text($15::text::json),
                        json_array_elements_text($16::text::json), json_array_elements_text($17::text::json))
            AS r (line, target, type, payload)
        OFFSET 0
    ) AS o (f, target, type, payload)
    WHERE EXISTS (SELECT FROM alive)
), answers AS (
    INSERT INTO idempotency AS i (tenant, request_hash, key, response, created_at)
    SELECT f[1], decode(f[2], 'base64'), key, response, $3::timestamptz
    FROM (
        SELECT string_to_array(line, ','), key, response
        FROM ROWS FROM (unnest(string_to_array($18, E'\n')), json_array_elements_text($19::text::json),
                        json_array_elements_text($20::text::json)) AS r (line, key, response)
        OFFSET 0
    ) AS a (f, key, response)
    WHERE EXISTS (SELECT FROM alive)
    ON CONFLICT (tenant, key) DO UPDATE
    SET request_hash = excluded.request_hash, response = excluded.response, created_at = excluded.created_at
    WHERE i.created_at <= excluded.created_at - interval '24 hours'
    RETURNING 1
), closing (f) AS MATERIALIZED (
    SELECT string_to_array(line, ',') FROM unnest(string_to_array($21, E'\n')) AS r (line)
    WHERE EXISTS (SELECT FROM alive)
), closed AS (
    INSERT INTO closed_message AS c (message_id, day, status, closed_at)
    SELECT f[1], coalesce(nullif(f[2], 'null')::date, $4::date), f[3], f[4]::timestamptz FROM closing
    ON CONFLICT (message_id, day) DO UPDATE SET status = excluded.status
), no_longer_open AS (
    DELETE FROM open_message AS o USING closing
    WHERE o.shard = f[5]::smallint AND o.message_id = f[1]
), parked AS (
    UPDATE open_message AS o SET due = u.due
    FROM (
        SELECT f[1]::smallint, f[2], nullif(f[3], 'null')::timestamptz
        FROM (SELECT string_to_array(line, ',') FROM unnest(string_to_array($22, E'\n')) AS r (line) OFFSET 0) AS p (f)
        OFFSET 0
    ) AS u (shard, message_id, due)
    WHERE o.shard = u.shard AND o.message_id = u.message_id AND o.due IS DISTINCT FROM u.due
      AND EXISTS (SELECT FROM alive)
), used AS (
    -- Each worker adds to rows of its own, so that none waits for another; `fold_usage` joins those of the dead.
    INSERT INTO usage AS u (tenant, mode, day, channel, carrier, status, worker, messages, attempts, segments,
                            cost_micros)
    SELECT f[1], f[2], f[3]::date, f[4], f[5], f[6], $1, f[7]::bigint, f[8]::bigint, f[9]::bigint, f[10]::bigint
    FROM (SELECT string_to_array(line, ',') FROM unnest(string_to_array($23, E'\n')) AS r (line) OFFSET 0) AS l (f)
    WHERE EXISTS (SELECT FROM alive)
    ON CONFLICT (tenant, day, mode, channel, carrier, status, worker) DO UPDATE
    SET messages = u.messages + excluded.messages, attempts = u.attempts + excluded.attempts,
        segments = u.segments + excluded.segments, cost_micros = u.cost_micros + excluded.cost_micros
)
-- A key that is stored and younger than 24 h leaves its row out of `answers`: divide by zero, roll back.
SELECT CASE WHEN NOT EXISTS (SELECT FROM marked) THEN false
            ELSE 1 / ((SELECT count(*) FROM answers)
                      = coalesce(cardinality(string_to_array($18, E'\n')), 0))::integer = 1 END

-- name: batch_is_in
SELECT EXISTS (SELECT FROM batch WHERE worker = $1 AND n = $2)

-- name: forget_batches
DELETE FROM batch WHERE worker = $1 AND n < $2

-- name: register_worker
INSERT INTO worker (id, host, pid, process_started_at, started_at, lease_until, secret_digest)
VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 second', $7)

-- name: other_secrets
SELECT host, pid, process_started_at FROM worker
WHERE NOT dead AND lease_until > now() AND secret_digest NOT IN ('', $1)

-- name: extend_lease
UPDATE worker SET lease_until = now() + $2 * interval '1 second' WHERE id = $1 AND NOT dead RETURNING 1

-- name: living_workers
SELECT id, host, pid, process_started_at, lease_until < now() AS lapsed FROM worker WHERE NOT dead

-- name: declare_dead
UPDATE worker SET dead = true, dead_at = now(), gone = $2
WHERE id = $1 AND NOT dead AND ($2 OR lease_until < now()) RETURNING 1

-- name: retire_worker
UPDATE worker SET dead = true, dead_at = now(), gone = true WHERE id = $1 AND NOT dead

-- name: claim_shards
-- Under an advisory lock, one worker after the other. FOR UPDATE SKIP LOCKED alone is not enough: of a row that
-- another worker took since our snapshot only its new version is looked at, not whether the new owner lives.
WITH me AS MATERIALIZED (
    SELECT FROM worker WHERE id = $1 AND NOT dead FOR SHARE
), free AS (
    SELECT s.id, s.owner FROM shard AS s
    WHERE EXISTS (SELECT FROM me)
      AND NOT EXISTS (SELECT FROM worker AS w WHERE w.id = s.owner AND NOT w.dead)
    ORDER BY s.id LIMIT $2 FOR UPDATE
), taken AS (
    UPDATE shard AS s SET owner = $1, epoch = s.epoch + 1 FROM free WHERE s.id = free.id
    RETURNING s.id, free.owner AS former
)
-- A worker acts until it is declared dead, or is gone just before; a lease that ended earlier tells nothing, since who
-- cannot reach the database goes on without one.
SELECT t.id, t.former IS NULL AS fresh, w.dead_at AS acted_until
FROM taken AS t LEFT JOIN worker AS w ON w.id = t.former

-- name: release_shards
UPDATE shard SET owner = NULL, epoch = epoch + 1 WHERE owner = $1 AND id = ANY ($2::smallint[])

-- name: notify
SELECT pg_notify($1, $2)

-- name: send_errands
-- Whoever owns a shard now is told; who takes it over reads what is there.
WITH kept AS (
    INSERT INTO errand (shard, message_id, kind, body, asked_by, stored_at)
    SELECT shard, message_id, kind, body, asked_by, $6
    FROM unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[])
        AS u (shard, message_id, kind, body, asked_by)
    RETURNING shard
), told AS (
    SELECT pg_notify($7, $8 || ' errand ' || o.owner)
    FROM (SELECT DISTINCT s.owner FROM kept AS k JOIN shard AS s ON s.id = k.shard WHERE s.owner IS NOT NULL) AS o
)
SELECT count(*) FROM told

-- name: errands
SELECT id, message_id, kind, body, asked_by FROM errand
WHERE shard = ANY ($1::smallint[]) AND id NOT IN (SELECT unnest($3::bigint[])) ORDER BY shard, id LIMIT $2

-- name: errands_done
DELETE FROM errand AS e USING unnest($1::smallint[], $2::bigint[]) AS u (shard, id)
WHERE e.shard = u.shard AND e.id = u.id

-- name: purge_errands
DELETE FROM errand WHERE stored_at < $1

-- name: take_nonce
INSERT INTO nonce (hash, until) VALUES ($1, $3)
ON CONFLICT (hash) DO UPDATE SET until = excluded.until WHERE nonce.until <= $2 RETURNING 1

-- name: purge_nonces
DELETE FROM nonce WHERE until < $1

-- name: claim_carriers
-- Under an advisory lock, for the reason that `claim_shards` gives.
WITH me AS MATERIALIZED (
    SELECT FROM worker WHERE id = $1 AND NOT dead FOR SHARE
)
INSERT INTO carrier_lease AS l (carrier, owner)
SELECT carrier, $1 FROM unnest($2::text[]) AS u (carrier) WHERE EXISTS (SELECT FROM me)
ON CONFLICT (carrier) DO UPDATE SET owner = $1, epoch = l.epoch + 1
WHERE NOT EXISTS (SELECT FROM worker AS w WHERE w.id = l.owner AND NOT w.dead)
RETURNING carrier

-- name: carrier_leases
SELECT carrier, owner, state, reason,
       NOT EXISTS (SELECT FROM worker AS w WHERE w.id = l.owner AND NOT w.dead) AS free
FROM carrier_lease AS l ORDER BY carrier

-- name: tell_carrier
WITH told AS (
    UPDATE carrier_lease SET state = $3, reason = $4 WHERE carrier = $2 AND owner = $1 RETURNING 1
)
SELECT pg_notify($5, $1 || ' carriers ') FROM told

-- name: give_carrier
WITH both_ AS MATERIALIZED (
    SELECT FROM worker WHERE id IN ($1, $3) AND NOT dead ORDER BY id FOR SHARE
), given AS (
    UPDATE carrier_lease SET owner = $3, epoch = epoch + 1
    WHERE carrier = $2 AND owner = $1 AND (SELECT count(*) FROM both_) = 2 RETURNING 1
), told AS (
    SELECT pg_notify($4, $1 || ' carriers ') FROM given
)
SELECT (SELECT count(*) FROM given) AS given, (SELECT count(*) FROM told) AS told

-- name: hand_over
-- Nothing by a worker that was declared dead: its messages are another one's by then.
WITH me AS MATERIALIZED (
    SELECT FROM worker WHERE id = $1 AND NOT dead FOR SHARE
), kept AS (
    INSERT INTO handover (carrier, worker, kind, message_id, step, attempt, once, expires_at, body, stored_at)
    SELECT carrier, $1, kind, message_id, step, attempt, once, expires_at, body, $10
    FROM unnest($2::text[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::boolean[],
                $8::timestamptz[], $9::text[])
        WITH ORDINALITY AS u (carrier, kind, message_id, step, attempt, once, expires_at, body, n)
    WHERE EXISTS (SELECT FROM me) ORDER BY n
    RETURNING carrier
), told AS (
    SELECT pg_notify($11, $1 || ' handover ' || o.owner)
    FROM (SELECT DISTINCT l.owner FROM kept AS k JOIN carrier_lease AS l ON l.carrier = k.carrier) AS o
)
SELECT (SELECT count(*) FROM kept) AS kept, (SELECT count(*) FROM told) AS told

-- name: take_handovers
-- What a worker that died handed over: sent if nobody else may send it, forgotten if its message's new owner does.
WITH me AS MATERIALIZED (
    SELECT FROM worker WHERE id = $1 AND NOT dead FOR SHARE
), mine AS MATERIALIZED (
    SELECT FROM carrier_lease WHERE carrier = $2 AND owner = $1 AND EXISTS (SELECT FROM me)
), gone AS (
    DELETE FROM handover AS h
    WHERE h.carrier = $2 AND h.taken_by IS NULL AND (NOT h.once OR h.expires_at <= $4) AND EXISTS (SELECT FROM mine)
      AND NOT EXISTS (SELECT FROM worker AS w WHERE w.id = h.worker AND NOT w.dead)
), next AS (
    SELECT h.id FROM handover AS h
    WHERE h.carrier = $2 AND h.taken_by IS NULL AND h.expires_at > $4 AND EXISTS (SELECT FROM mine)
      AND (h.once OR EXISTS (SELECT FROM worker AS w WHERE w.id = h.worker AND NOT w.dead))
    ORDER BY h.id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE handover AS h SET taken_by = $1 FROM next WHERE h.carrier = $2 AND h.id = next.id
RETURNING h.carrier, h.kind, h.message_id, h.step, h.attempt, h.once, h.expires_at, h.body, h.worker, h.id

-- name: taken_handovers
SELECT carrier, kind, message_id, step, attempt, once, expires_at, body, worker, id
FROM handover WHERE carrier = $1 AND taken_by IS NOT NULL ORDER BY id

-- name: give_back_handovers
UPDATE handover SET taken_by = NULL WHERE carrier = $2 AND id = ANY ($3::bigint[]) AND taken_by = $1

-- name: handed_over
SELECT message_id FROM handover WHERE carrier = $2 AND worker = $1
UNION SELECT message_id FROM errand WHERE shard = ANY ($3::smallint[]) AND kind = 'answer'

-- name: recall_handovers
DELETE FROM handover
WHERE carrier = $2 AND worker = $1 AND taken_by IS NULL AND ($3 OR expires_at <= $4)
RETURNING message_id, step, attempt

-- name: handovers_done
DELETE FROM handover AS h USING unnest($1::text[], $2::bigint[]) AS u (carrier, id)
WHERE h.carrier = u.carrier AND h.id = u.id

-- name: purge_handovers
DELETE FROM handover WHERE stored_at < $1

-- name: is_dead
SELECT dead FROM worker WHERE id = $1

-- name: workers
SELECT w.id, host, pid, process_started_at, started_at, lease_until, dead, control,
       (SELECT count(*) FROM shard AS s WHERE s.owner = w.id) AS shards
FROM worker AS w WHERE NOT dead OR dead_at > $1 ORDER BY id

-- name: announce
UPDATE worker SET control = $2 WHERE id = $1

-- name: forget_workers
DELETE FROM worker AS w WHERE dead AND dead_at < $1 AND NOT EXISTS (SELECT FROM shard AS s WHERE s.owner = w.id)

-- name: forget_dead_batches
DELETE FROM batch AS b
WHERE NOT EXISTS (SELECT FROM worker AS w WHERE w.id = b.worker AND (NOT w.dead OR w.dead_at > now() - interval '1 day'))

-- name: load_messages
SELECT m.message_id, m.body, c.status, o.due
FROM unnest($1::text[], $2::date[], $3::smallint[]) AS u (message_id, day, shard)
CROSS JOIN LATERAL (SELECT * FROM message AS m WHERE m.message_id = u.message_id AND m.day = u.day OFFSET 0) AS m
LEFT JOIN LATERAL (
    SELECT status FROM closed_message AS c WHERE c.message_id = u.message_id AND c.day = u.day OFFSET 0
) AS c ON true
LEFT JOIN LATERAL (
    SELECT due FROM open_message AS o WHERE o.shard = u.shard AND o.message_id = u.message_id OFFSET 0
) AS o ON true

-- name: load_events
SELECT e.message_id, e.seq, e.at, e.type, e.step, e.attempt, e.data
FROM unnest($1::text[], $2::date[]) AS u (message_id, day)
CROSS JOIN LATERAL (
    SELECT * FROM event AS e WHERE e.message_id = u.message_id AND e.day = u.day ORDER BY e.seq OFFSET 0
) AS e

-- name: hot_page
SELECT message_id FROM open_message
WHERE shard = $1 AND message_id > $2 AND due IS NULL ORDER BY message_id LIMIT $3

-- name: due_page
-- NOT IN with a subquery is looked up in a hash; `<> ALL` would compare with each id.
SELECT message_id FROM open_message
WHERE due < $2 AND shard = ANY ($1::smallint[]) AND message_id NOT IN (SELECT unnest($4::text[]))
ORDER BY due LIMIT $3

-- name: count_open
SELECT count(*) FROM open_message WHERE shard = ANY ($1::smallint[])

-- name: count_closed
-- {m}, {c}, {e}: the conditions that were asked for, and no others: each one lowers the planner's guess.
SELECT c.status, count(*) FROM message AS m
JOIN closed_message AS c ON c.message_id = m.message_id AND c.day = m.day AND {c}
WHERE {m} GROUP BY 1

-- name: count_open_by_status
SELECT status, count(*) FROM (
    SELECT (ARRAY['accepted', 'scheduled', 'in_progress'])[
               1 + max(CASE WHEN e.type IS NULL THEN 0 WHEN e.type = 'scheduled' THEN 1 ELSE 2 END)] AS status
    FROM open_message AS o
    JOIN message AS m ON m.message_id = o.message_id
    LEFT JOIN event AS e ON e.message_id = m.message_id AND e.day = m.day
        AND e.type NOT IN ('accepted', 'sending', 'crashed') AND {e}
    WHERE {m} GROUP BY m.message_id
) AS open GROUP BY 1

-- name: find_refs
SELECT k.n, r.message_id, r.step, r.attempt, r.segment
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (ref, carrier, n)
CROSS JOIN LATERAL (
    SELECT r.message_id, r.step, r.attempt, r.segment FROM carrier_ref AS r
    WHERE r.ref = k.ref AND r.carrier = k.carrier ORDER BY r.at DESC LIMIT 1
) AS r

-- name: find_all_refs
SELECT message_id, step, attempt, segment FROM carrier_ref
WHERE ref = $1 AND carrier = $2 ORDER BY at DESC, message_id DESC LIMIT $3

-- name: find_idempotent
SELECT request_hash, response FROM idempotency WHERE tenant = $1 AND key = $2 AND created_at > $3

-- name: park_receipt
INSERT INTO parked_receipt (ref, receipt, stored_at) VALUES ($1, $2, $3) RETURNING id

-- name: parked_receipts
SELECT id, ref, receipt, stored_at FROM parked_receipt ORDER BY id DESC LIMIT $1

-- name: parked_by_id
SELECT id, ref, receipt, stored_at FROM parked_receipt WHERE id = ANY ($1::bigint[])

-- name: drop_parked
DELETE FROM parked_receipt WHERE id = ANY ($1::bigint[])

-- name: store_inbound
-- Of a message put together from parts the row with number 0 decides: who writes it stores the message.
WITH whole AS (
    INSERT INTO inbound_part (carrier, sender, recipient, reference, total, number, data_coding, octets, received_at)
    SELECT $3, $13::text, $14::text, $15::integer, $16::smallint, 0, 0, '', $5 WHERE $13::text IS NOT NULL
    ON CONFLICT (carrier, sender, recipient, reference, total, number) DO UPDATE SET received_at = EXCLUDED.received_at
    WHERE inbound_part.received_at < EXCLUDED.received_at - interval '5 minutes'
    RETURNING 1
), kept AS (
    INSERT INTO inbound (inbound_id, tenant, carrier, carrier_message_id, received_at, body)
    SELECT $1, $2, $3, $4, $5, $6 WHERE $13::text IS NULL OR EXISTS (SELECT FROM whole)
    ON CONFLICT (carrier, carrier_message_id) WHERE carrier_message_id IS NOT NULL DO NOTHING
    RETURNING 1
), deliveries AS (
    INSERT INTO outbox (message_id, seq, target, shard, tenant, type, due, payload, created_at)
    SELECT $1, seq, target, $7::smallint, $2, type, due, payload, $5
    FROM unnest($8::integer[], $9::text[], $10::text[], $11::timestamptz[], $12::text[])
        AS o (seq, target, type, due, payload)
    WHERE EXISTS (SELECT FROM kept)
), joined AS (
    DELETE FROM inbound_part
    WHERE carrier = $3 AND sender = $13::text AND recipient = $14::text
        AND reference = $15::integer AND total = $16::smallint AND number > 0
)
SELECT EXISTS (SELECT FROM kept)

-- name: store_part
INSERT INTO inbound_part (carrier, sender, recipient, reference, total, number, data_coding, octets, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (carrier, sender, recipient, reference, total, number) DO UPDATE
SET data_coding = EXCLUDED.data_coding, octets = EXCLUDED.octets, received_at = EXCLUDED.received_at

-- name: stored_parts
SELECT carrier, sender, recipient, reference, total, number, data_coding, octets, received_at
FROM inbound_part AS p
WHERE carrier = $1 AND NOT EXISTS (
    SELECT FROM inbound_part AS d
    WHERE d.carrier = p.carrier AND d.sender = p.sender AND d.recipient = p.recipient AND d.reference = p.reference
        AND d.total = p.total AND d.number = 0 AND p.number > 0 AND d.received_at >= p.received_at
)
ORDER BY received_at, number

-- name: purge_parts
DELETE FROM inbound_part WHERE received_at < $1

-- name: inbound
SELECT inbound_id, tenant, body, received_at FROM inbound
WHERE tenant IS NOT DISTINCT FROM $1 ORDER BY inbound_id DESC LIMIT $2

-- name: messages_to
SELECT message_id FROM message
WHERE recipient = $1 AND day >= $2 AND mode = 'live' ORDER BY message_id DESC LIMIT $3

-- name: purge_inbound
DELETE FROM inbound WHERE received_at < $1

-- name: outbox_due
SELECT message_id, seq, target, tenant, type, due, attempts, created_at, payload, last_error, dead_at
FROM outbox
WHERE tenant = $1 AND dead_at IS NULL AND due < $2 AND shard = ANY ($4::smallint[])
ORDER BY due LIMIT $3

-- name: outbox_due_all
WITH RECURSIVE t (tenant) AS (
    (SELECT tenant FROM outbox WHERE dead_at IS NULL ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT o.tenant FROM outbox AS o WHERE o.dead_at IS NULL AND o.tenant > t.tenant
            ORDER BY o.tenant LIMIT 1)
    FROM t WHERE t.tenant IS NOT NULL
)
SELECT o.* FROM t CROSS JOIN LATERAL (
    SELECT message_id, seq, target, tenant, type, due, attempts, created_at, payload, last_error, dead_at
    FROM outbox
    WHERE tenant = t.tenant AND dead_at IS NULL AND due < $1 AND shard = ANY ($3::smallint[])
    ORDER BY due LIMIT $2
) AS o
ORDER BY o.due, o.message_id, o.seq, o.target LIMIT $2

-- name: outbox_tenants
WITH RECURSIVE t (tenant) AS (
    (SELECT tenant FROM outbox WHERE dead_at IS NULL ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT o.tenant FROM outbox AS o WHERE o.dead_at IS NULL AND o.tenant > t.tenant
            ORDER BY o.tenant LIMIT 1)
    FROM t WHERE t.tenant IS NOT NULL
)
SELECT tenant FROM t
WHERE EXISTS (SELECT FROM outbox AS o
              WHERE o.tenant = t.tenant AND o.dead_at IS NULL AND o.shard = ANY ($1::smallint[]))
ORDER BY tenant

-- name: outbox_done
DELETE FROM outbox AS o
USING unnest($1::text[], $2::integer[], $3::text[]) AS u (message_id, seq, target)
WHERE o.message_id = u.message_id AND o.seq = u.seq AND o.target = u.target

-- name: outbox_undone
UPDATE outbox AS o
SET attempts = u.attempts, due = coalesce(u.due, o.due), last_error = u.error,
    dead_at = CASE WHEN u.dead THEN $8::timestamptz END
FROM unnest($1::text[], $2::integer[], $3::text[], $4::integer[], $5::timestamptz[], $6::text[], $7::boolean[])
    AS u (message_id, seq, target, attempts, due, error, dead)
WHERE o.message_id = u.message_id AND o.seq = u.seq AND o.target = u.target

-- name: dead_letters
SELECT message_id, seq, target, tenant, type, due, attempts, created_at, payload, last_error, dead_at
FROM outbox
WHERE tenant = $1 AND dead_at IS NOT NULL
  AND ($2::text IS NULL OR (message_id, seq, target) < ($2, $3::integer, $4::text))
ORDER BY message_id DESC, seq DESC, target DESC LIMIT $5

-- name: replay_dead_letter
UPDATE outbox SET dead_at = NULL, attempts = 0, due = $5
WHERE message_id = $1 AND seq = $2 AND target = $3 AND tenant = $4 AND dead_at IS NOT NULL RETURNING 1

-- name: outbox_pending
SELECT count(*) FROM outbox WHERE dead_at IS NULL AND shard = ANY ($1::smallint[])

-- name: put_tenant
INSERT INTO tenant (id, name, status, created_at, secret, previous_secret, previous_secret_until, settings, stage,
                    email, deleted_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, status = excluded.status, created_at = excluded.created_at, secret = excluded.secret,
    previous_secret = excluded.previous_secret, previous_secret_until = excluded.previous_secret_until,
    settings = excluded.settings, stage = excluded.stage, email = excluded.email, deleted_at = excluded.deleted_at
RETURNING 1

-- name: tenants
SELECT id, name, status, created_at, secret, previous_secret, previous_secret_until, settings, stage, email, deleted_at
FROM tenant WHERE status <> 'deleted' ORDER BY id

-- name: tenant_by_id
SELECT id, name, status, created_at, secret, previous_secret, previous_secret_until, settings, stage, email, deleted_at
FROM tenant WHERE id = $1 AND status <> 'deleted'

-- name: put_key
INSERT INTO api_key (id, tenant, key_hash, prefix, mode, scopes, created_at, expires_at, allow_from, last_used_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (id) DO UPDATE
SET prefix = excluded.prefix, scopes = excluded.scopes, expires_at = excluded.expires_at,
    allow_from = excluded.allow_from
WHERE api_key.tenant = excluded.tenant
RETURNING 1

-- name: keys
SELECT id, tenant, key_hash, prefix, mode, scopes, created_at, expires_at, allow_from, last_used_at
FROM api_key WHERE expires_at IS NULL OR expires_at > $1 ORDER BY id

-- name: tenant_keys
SELECT id, tenant, key_hash, prefix, mode, scopes, created_at, expires_at, allow_from, last_used_at
FROM api_key WHERE tenant = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY id

-- name: keys_used
UPDATE api_key SET last_used_at = $2 WHERE id = ANY ($1::text[]) AND (last_used_at IS NULL OR last_used_at < $2)

-- name: delete_key
DELETE FROM api_key WHERE tenant = $1 AND id = $2 RETURNING 1

-- name: put_endpoint
INSERT INTO endpoint (id, tenant, url, events, secret, created_at, disabled_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE
SET url = excluded.url, events = excluded.events, secret = excluded.secret, disabled_at = excluded.disabled_at
WHERE endpoint.tenant = excluded.tenant
RETURNING 1

-- name: endpoints
SELECT id, tenant, url, events, secret, created_at, disabled_at FROM endpoint ORDER BY id

-- name: tenant_endpoints
SELECT id, tenant, url, events, secret, created_at, disabled_at FROM endpoint WHERE tenant = $1 ORDER BY id

-- name: delete_endpoint
DELETE FROM endpoint WHERE tenant = $1 AND id = $2 RETURNING 1

-- name: put_policy
INSERT INTO policy (tenant, name, body, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at
RETURNING 1

-- name: policies
SELECT tenant, name, body, created_at, updated_at FROM policy ORDER BY tenant, name

-- name: tenant_policies
SELECT tenant, name, body, created_at, updated_at FROM policy WHERE tenant = $1 ORDER BY name

-- name: delete_policy
DELETE FROM policy WHERE tenant = $1 AND name = $2 RETURNING 1

-- name: put_template
WITH old AS (
    DELETE FROM template WHERE tenant = $1 AND name = $2 AND version <= $7
)
INSERT INTO template (tenant, name, id, version, body, created_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING 1

-- name: templates
SELECT DISTINCT ON (tenant, name) tenant, name, id, version, '' AS body, created_at
FROM template ORDER BY tenant, name, version DESC

-- name: tenant_templates
SELECT DISTINCT ON (name) tenant, name, id, version, '' AS body, created_at
FROM template WHERE tenant = $1 ORDER BY name, version DESC

-- name: template
SELECT tenant, name, id, version, body, created_at FROM template WHERE tenant = $1 AND name = $2 AND version = $3

-- name: delete_template
DELETE FROM template WHERE tenant = $1 AND name = $2 RETURNING 1

-- name: put_change
INSERT INTO change (at, actor, request_id, tenant, action, target, before, after)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: changes
SELECT id, at, actor, request_id, tenant, action, target, before, after FROM change
WHERE tenant = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3

-- name: all_changes
SELECT id, at, actor, request_id, tenant, action, target, before, after FROM change
WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2

-- name: put_suppressions
-- What is there stays: the update changes nothing, and only makes RETURNING show the row.
INSERT INTO suppression AS s (id, tenant, channel, address, reason, created_at)
SELECT id, tenant, channel, address, reason, created_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    AS u (id, tenant, channel, address, reason, created_at)
ON CONFLICT (tenant, address, channel) DO UPDATE SET reason = s.reason
RETURNING id, tenant, channel, address, reason, created_at

-- name: delete_suppression
DELETE FROM suppression WHERE id = $2 AND tenant IS NOT DISTINCT FROM $1
RETURNING id, tenant, channel, address, reason, created_at

-- name: find_suppressions
SELECT id, tenant, channel, address, reason, created_at FROM suppression
WHERE tenant = $1 AND address = $2 OR $1 IS NULL AND tenant IS NULL AND address = $2

-- name: suppressions
SELECT id, tenant, channel, address, reason, created_at FROM suppression
WHERE (tenant = $1 OR $1 IS NULL AND tenant IS NULL) AND ($2::text IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3

-- name: all_suppressions
SELECT id, tenant, channel, address, reason, created_at FROM suppression WHERE id > $1 ORDER BY id LIMIT $2

-- name: put_live_setting
INSERT INTO live_setting (kind, name, body, sealed, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body, sealed = excluded.sealed

-- name: live_settings
SELECT kind, name, body, sealed, created_at FROM live_setting ORDER BY created_at, kind, name

-- name: delete_live_setting
DELETE FROM live_setting WHERE kind = $1 AND name = $2 RETURNING 1

-- name: usage
SELECT $2::text AS mode, day, channel, carrier, status, sum(messages)::bigint AS messages,
       sum(attempts)::bigint AS attempts, sum(segments)::bigint AS segments, sum(cost_micros)::bigint AS cost_micros
FROM usage WHERE tenant = $1 AND mode = $2 AND day BETWEEN $3 AND $4 AND status <> 'accepted'
GROUP BY day, channel, carrier, status
HAVING sum(messages) <> 0 OR sum(attempts) <> 0 OR sum(segments) <> 0 OR sum(cost_micros) <> 0
ORDER BY day, channel, carrier, status

-- name: accepted
-- For quotas: what was accepted on day $4 and in the month from $5 to before $6, and what usage says of its cost.
SELECT u.tenant, u.mode, u.worker = $1 AS own,
       coalesce(sum(messages) FILTER (WHERE accepted AND today), 0)::bigint AS day_messages,
       coalesce(sum(segments) FILTER (WHERE accepted AND today), 0)::bigint AS day_segments,
       coalesce(sum(cost_micros) FILTER (WHERE accepted AND today), 0)::bigint AS day_micros,
       coalesce(sum(messages) FILTER (WHERE accepted), 0)::bigint AS month_messages,
       coalesce(sum(segments) FILTER (WHERE accepted), 0)::bigint AS month_segments,
       coalesce(sum(cost_micros) FILTER (WHERE accepted), 0)::bigint AS month_micros,
       coalesce(sum(cost_micros) FILTER (WHERE NOT accepted AND today), 0)::bigint AS day_cost,
       coalesce(sum(cost_micros) FILTER (WHERE NOT accepted), 0)::bigint AS month_cost
FROM unnest($2::text[], $3::text[]) AS s (tenant, mode)
JOIN usage AS u ON u.tenant = s.tenant AND u.mode = s.mode AND u.day >= $5 AND u.day < $6,
     LATERAL (SELECT u.status = 'accepted', u.day = $4) AS is_ (accepted, today)
GROUP BY u.tenant, u.mode, own

-- name: fold_usage
-- Rows of workers that can write no more become one for each line, whose worker is ''.
WITH gone AS (
    DELETE FROM usage AS u
    WHERE u.worker <> '' AND NOT EXISTS (SELECT FROM worker AS w WHERE w.id = u.worker AND NOT w.dead)
    RETURNING *
)
INSERT INTO usage AS u (tenant, mode, day, channel, carrier, status, worker, messages, attempts, segments, cost_micros)
SELECT tenant, mode, day, channel, carrier, status, '', sum(messages), sum(attempts), sum(segments), sum(cost_micros)
FROM gone GROUP BY tenant, mode, day, channel, carrier, status
ON CONFLICT (tenant, day, mode, channel, carrier, status, worker) DO UPDATE
SET messages = u.messages + excluded.messages, attempts = u.attempts + excluded.attempts,
    segments = u.segments + excluded.segments, cost_micros = u.cost_micros + excluded.cost_micros

-- name: partitions
SELECT parent.relname AS parent, child.relname AS name, i.inhdetachpending AS detaching
FROM pg_inherits AS i
JOIN pg_class AS parent ON parent.oid = i.inhparent
JOIN pg_class AS child ON child.oid = i.inhrelid
JOIN pg_namespace AS n ON n.oid = parent.relnamespace AND n.nspname = current_schema()
WHERE parent.relname = ANY ($1::text[]) AND child.relkind = 'r'

-- name: open_in_range
SELECT EXISTS (
    SELECT FROM generate_series(0, 63) AS s (shard)
    CROSS JOIN LATERAL (
        SELECT FROM open_message AS o
        WHERE o.shard = s.shard AND o.message_id >= $1 AND o.message_id < $2 LIMIT 1
    ) AS o
)

-- name: purge_idempotency
DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency WHERE created_at <= $1 ORDER BY created_at LIMIT $2
)) RETURNING 1

-- name: purge_parked
DELETE FROM parked_receipt WHERE stored_at <= $1 RETURNING receipt

-- name: erase_tenants
-- Everything of tenants that were deleted before $1, but for their messages: those left with their days. Of the audit
-- log stays who did what and when.
WITH gone AS (
    DELETE FROM tenant WHERE status = 'deleted' AND deleted_at < $1 RETURNING id
), keys AS (
    DELETE FROM api_key WHERE tenant IN (SELECT id FROM gone)
), endpoints AS (
    DELETE FROM endpoint WHERE tenant IN (SELECT id FROM gone)
), policies AS (
    DELETE FROM policy WHERE tenant IN (SELECT id FROM gone)
), templates AS (
    DELETE FROM template WHERE tenant IN (SELECT id FROM gone)
), suppressions AS (
    DELETE FROM suppression WHERE tenant IN (SELECT id FROM gone)
), inbound AS (
    DELETE FROM inbound WHERE tenant IN (SELECT id FROM gone)
), erasures AS (
    DELETE FROM erasure WHERE tenant IN (SELECT id FROM gone)
), consents AS (
    DELETE FROM consent WHERE tenant IN (SELECT id FROM gone)
), deliveries AS (
    DELETE FROM outbox WHERE tenant IN (SELECT id FROM gone)
), answers AS (
    DELETE FROM idempotency WHERE tenant IN (SELECT id FROM gone)
), log AS (
    UPDATE change SET before = NULL, after = NULL WHERE tenant IN (SELECT id FROM gone)
)
SELECT id FROM gone

-- name: put_consent
INSERT INTO consent (id, tenant, channel, category, recipient, address, source, ip, text_version, given_at, created_at,
                     changed_at, withdrawn_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING 1

-- name: consent
SELECT * FROM consent WHERE tenant = $1 AND id = $2

-- name: consents
SELECT * FROM consent
WHERE tenant = $1 AND ($2::text IS NULL OR recipient = $2) AND ($3::text IS NULL OR id < $3) ORDER BY id DESC LIMIT $4

-- name: consents_of
SELECT * FROM consent WHERE tenant = $1 AND recipient = $2

-- name: withdraw_consents
UPDATE consent SET withdrawn_at = $5, changed_at = $5
WHERE tenant = $1 AND recipient = $2 AND channel = $3 AND category = $4 AND withdrawn_at IS NULL RETURNING 1

-- name: erase_consents
UPDATE consent SET address = NULL, ip = NULL, withdrawn_at = coalesce(withdrawn_at, $3), changed_at = $3
WHERE tenant = $1 AND recipient = $2 AND address IS NOT NULL RETURNING 1

-- name: consents_changed
SELECT * FROM consent WHERE (changed_at, id) > ($1, $2) ORDER BY changed_at, id LIMIT $3

-- name: put_erasure
INSERT INTO erasure (id, tenant, recipient, address, asked_by, created_at, messages, inbound, after_id, done_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (id) DO UPDATE
SET address = excluded.address, messages = excluded.messages, inbound = excluded.inbound,
    after_id = excluded.after_id, done_at = excluded.done_at
RETURNING 1

-- name: erasure
SELECT * FROM erasure WHERE tenant = $1 AND id = $2

-- name: erasures
SELECT * FROM erasure WHERE tenant = $1 AND ($2::text IS NULL OR id < $2) ORDER BY id DESC LIMIT $3

-- name: open_erasures
SELECT * FROM erasure WHERE done_at IS NULL ORDER BY id

-- name: erasable
SELECT m.message_id, m.body, c.status IS NULL AS open FROM message AS m
LEFT JOIN closed_message AS c ON c.message_id = m.message_id AND c.day = m.day
WHERE m.tenant = $1 AND m.message_id > $2 AND m.message_id < $3 AND m.erased_at IS NULL
ORDER BY m.message_id LIMIT $4

-- name: erase_messages
UPDATE message AS m SET body = u.body, reference = u.reference, recipient = NULL, erased_at = $5
FROM unnest($1::text[], $2::date[], $3::text[], $4::text[]) AS u (message_id, day, body, reference)
WHERE m.message_id = u.message_id AND m.day = u.day

-- name: erase_events
UPDATE event AS e SET data = u.data
FROM unnest($1::text[], $2::date[], $3::integer[], $4::text[]) AS u (message_id, day, seq, data)
WHERE e.message_id = u.message_id AND e.day = u.day AND e.seq = u.seq

-- name: erase_refs
-- Digests of whom and from whom (`Carrier.about`); there are few, and ids of carriers do not begin like this.
DELETE FROM carrier_ref WHERE ref >= 'about:' AND ref < 'about;' AND message_id = ANY ($1::text[])

-- name: erase_outbox
UPDATE outbox SET last_error = NULL WHERE message_id = ANY ($1::text[]) AND last_error IS NOT NULL

-- name: erase_answers
-- A stored answer keeps a repeat from being sent again; it goes only when an address is in it, or in its key.
DELETE FROM idempotency
WHERE tenant = $1
  AND EXISTS (SELECT FROM unnest($2::text[]) AS a (address)
              WHERE position(a.address IN key) > 0 OR position(a.address IN response) > 0)

-- name: erase_parked
DELETE FROM parked_receipt
WHERE EXISTS (SELECT FROM unnest($1::text[]) AS a (address) WHERE position(a.address IN receipt) > 0)

-- name: erasable_inbound
SELECT inbound_id, body FROM inbound
WHERE tenant = $1 AND inbound_id > $2 AND received_at < $3 ORDER BY inbound_id LIMIT $4

-- name: erase_inbound
WITH told AS (
    DELETE FROM outbox WHERE message_id = ANY ($1::text[])
), parts AS (
    DELETE FROM inbound_part AS p USING unnest($3::text[], $4::text[]) AS s (carrier, sender)
    WHERE p.carrier = s.carrier AND ltrim(p.sender, '+0') = ltrim(s.sender, '+0')
)
UPDATE inbound AS i SET body = u.body FROM unnest($1::text[], $2::text[]) AS u (inbound_id, body)
WHERE i.inbound_id = u.inbound_id

-- name: purge_outbox
DELETE FROM outbox WHERE message_id >= $1 AND message_id < $2

-- name: purge_inbound_outbox
DELETE FROM outbox WHERE message_id >= 'inb_' AND message_id < $1
