-- Counts messages against all limits at once, or says what refuses them: of each of several groups, whose messages ask for
-- the same. The same rules as local.py; the clock is Redis's own, so that workers on machines whose clocks differ share
-- one second. Numbers travel as doubles, big-endian, which costs a tenth of reading them from text.
-- KEYS: of each group, what its keys begin with. They are, after that: log, the times of the tenant's last second; credit,
--       what is left of its burst, and when it sent last; log:CHANNEL; sent:MESSAGE; with quotas day:DAY and month:MONTH
-- ARGV: 1, numbers: window in us, for how long to keep a month's sums and a day's in ms; then, of each group,
--       numbers: how many messages, rate, burst, channel rate, for how long the message counts as sent in ms (0: it does
--       not), whether to count (1) or only to look (0), whether it has quotas (1);
--       with quotas, each for messages, segments and millionths of money: limits of the month (3), of the day (3), what
--       a message adds (3), the least that counts as accepted in the month (3), in the day (3); then what was spent beyond
--       what was expected in the month, in the day;
--       the names of channel and message between blanks, and with quotas of day and month
-- Returns, of each group, numbers: how many go, their limit, what remains after the first of them; then, of the others,
--       who refuses (1 tenant, 2 channel, 3 duplicate, 4 and on the quota of limit 1 and on), limit, remaining, wait in us
local window, month_ms, day_ms = struct.unpack('>ddd', ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = string.format('%.0f', now)
local since = string.format('(%.0f', now - window)
local keep_ms = math.ceil(window / 1000)
local sweeps = time[2] % 8 == 0  -- what is older than the window is not looked at: it may go now and then

local function sent_to(log)
  if sweeps then redis.call('ZREMRANGEBYSCORE', log, '-inf', string.sub(since, 2)) end
  return redis.call('ZCOUNT', log, since, '+inf')
end

-- When rates were lowered more than one has to leave; the `before` that go with this one leave last.
local function wait(log, most, before)
  local from_last = most - 1 - before
  local leaves = from_last >= 0 and tonumber(redis.call('ZREVRANGE', log, from_last, from_last, 'WITHSCORES')[2]) or now
  return math.max(leaves + window - now, 0)
end

local function count(log, goes)
  local name, added = at, 0
  repeat  -- a clock that was put back: the name is one that nobody has
    local members = {at, name}
    for k = added + 2, goes do
      members[#members + 1], members[#members + 2] = at, name .. ':' .. k
    end
    added = added + redis.call('ZADD', log, 'NX', unpack(members))
    name = name .. '+'
  until added >= goes
  redis.call('PEXPIRE', log, keep_ms)
end

local function judge(base, text)
  local n, rate, burst, channel_rate, counts_ms, counts, quotas, rest_at = struct.unpack('>ddddddd', text)
  counts = counts == 1
  local quota
  if quotas == 1 then
    quota = {struct.unpack('>ddddddddddddddddd', text, rest_at)}
    rest_at = quota[18]
  end
  local channel, message, day, month = string.match(text, '^(%S+) (%S+) ?(%S*) ?(%S*)$', rest_at)
  local log, channel_log = base .. 'log', base .. 'log:' .. channel

  -- What is there: read once, then kept in these.
  local sent, credit, channel_sent, sums, periods = 0, 0, 0, {}, nil
  if rate > 0 then
    sent = sent_to(log)
    if burst > 0 then
      credit = burst
      local known = redis.call('GET', base .. 'credit')
      if known then
        local left, last = struct.unpack('>dd', known)
        credit = math.min(burst, left + math.max(now - last - window, 0) * rate / 1000000)
      end
    end
  end
  if channel_rate > 0 then channel_sent = sent_to(channel_log) end
  if quota then
    periods = {base .. 'month:' .. month, base .. 'day:' .. day}  -- as hermes/domain/quotas.py asks them
    for p = 0, 1 do
      local stored = redis.call('HMGET', periods[p + 1], 'messages', 'segments', 'micros')
      for k = 1, 3 do sums[3 * p + k] = math.max(tonumber(stored[k] or 0), quota[9 + 3 * p + k]) end
    end
  end

  -- Who refuses the next one, limit, remaining, wait; nobody: 0, the narrowest rate's limit, and what is left before it.
  local function next_one(before)
    local limit, left = 0, -1
    if rate > 0 then
      left = math.max(rate - sent, 0) + math.floor(credit)
      if left <= 0 then return 1, rate, 0, wait(log, rate, before) end
      limit = rate
    end
    if channel_rate > 0 then
      local its = channel_rate - channel_sent
      if its <= 0 then return 2, channel_rate, 0, wait(channel_log, channel_rate, before) end
      if left < 0 or its < left then limit, left = channel_rate, its end
    end
    if quota then
      for k = 1, 6 do
        local adds = quota[6 + (k - 1) % 3 + 1]
        local used = sums[k]
        if k == 3 then used = used + quota[16] elseif k == 6 then used = used + quota[17] end
        if quota[k] > 0 and adds > 0 and used + adds > quota[k] then
          return 3 + k, quota[k], math.max(quota[k] - used, 0), 0
        end
      end
    end
    if counts_ms > 0 and before == 0 and redis.call('EXISTS', base .. 'sent:' .. message) == 1 then
      return 3, 0, 0, redis.call('PTTL', base .. 'sent:' .. message) * 1000
    end
    return 0, limit, left, 0
  end

  local goes, limit, remaining = 0, 0, 0
  local who, its_limit, its_left, its_wait = 0, 0, 0, 0
  while goes < n do
    who, its_limit, its_left, its_wait = next_one(goes)
    if who > 0 then break end
    if goes == 0 then limit, remaining = its_limit, its_left - 1 end
    goes = goes + 1
    if not counts then break end
    if rate > 0 and burst > 0 and sent >= rate then credit = credit - 1 end
    sent, channel_sent = sent + 1, channel_sent + 1
    if quota then for k = 1, 6 do sums[k] = sums[k] + quota[6 + (k - 1) % 3 + 1] end end
  end

  if goes > 0 and counts then  -- what goes: written once
    if counts_ms > 0 then redis.call('SET', base .. 'sent:' .. message, 1, 'PX', counts_ms) end
    if rate > 0 then
      count(log, goes)
      if burst > 0 then
        local rested_ms = keep_ms + math.ceil(burst / rate * 1000)
        redis.call('SET', base .. 'credit', struct.pack('>dd', credit, now), 'PX', rested_ms)
      end
    end
    if channel_rate > 0 then count(channel_log, goes) end
    if quota then
      for p = 0, 1 do
        local sum = {}
        for k = 1, 3 do sum[k] = string.format('%.0f', sums[3 * p + k]) end
        redis.call('HSET', periods[p + 1], 'messages', sum[1], 'segments', sum[2], 'micros', sum[3])
        redis.call('PEXPIRE', periods[p + 1], p == 0 and month_ms or day_ms)
      end
    end
  end
  return struct.pack('>ddddddd', goes, limit, math.max(remaining, 0), who, its_limit, math.max(its_left, 0), its_wait)
end

local answers = {}
for n, base in ipairs(KEYS) do answers[n] = judge(base, ARGV[n + 1]) end
return table.concat(answers)
