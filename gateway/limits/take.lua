-- Counts messages that ask for the same against all limits at once, or says what refuses them. The same rules as
-- local.py; the clock is Redis's own, so that workers on machines whose clocks differ share one second.
-- KEYS: 1 the tenant's log, 2 its burst, 3 the channel's log, 4 the message; with quotas 5 the day's sums, 6 the month's
-- ARGV: 1, numbers between blanks: how many messages, rate, burst, channel rate, window in us, for how long the message
--       counts as sent in ms (0: it does not), whether to count (1) or only to look (0)
--       2, with quotas, each for messages, segments and millionths of money: limits of the month (3), of the day (3), what
--       a message adds (3), the least that counts as accepted in the month (3), in the day (3); then what was spent beyond
--       what was expected in the month, in the day; and for how long to keep the month's sums, the day's, in ms
-- Returns, as numbers between blanks: how many go, their limit, what remains after the first of them; then, of the others,
--       who refuses (1 tenant, 2 channel, 3 duplicate, 4 and on the quota of limit 1 and on), limit, remaining, wait in us
local function numbers(text)
  local found = {}
  for one in string.gmatch(text, '%S+') do found[#found + 1] = tonumber(one) end
  return found
end

local asked = numbers(ARGV[1])
local n, rate, burst, channel_rate = asked[1], asked[2], asked[3], asked[4]
local window, counts_ms, counts = asked[5], asked[6], asked[7] == 1
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- What is there: read once, then kept in these.
local function sent_to(log)
  redis.call('ZREMRANGEBYSCORE', log, '-inf', now - window)
  return redis.call('ZCARD', log)
end
local sent, credit, channel_sent = 0, 0, 0
if rate > 0 then
  sent = sent_to(KEYS[1])
  credit = burst
  local known = burst > 0 and redis.call('HMGET', KEYS[2], 'credit', 'last')
  if known and known[1] then
    local rest = now - tonumber(known[2]) - window
    credit = tonumber(known[1])
    if rest > 0 then credit = credit + rest * rate / 1000000 end
    credit = math.min(burst, credit)
  end
end
if channel_rate > 0 then channel_sent = sent_to(KEYS[3]) end
local quota, sums = nil, {}
if KEYS[5] then
  quota = numbers(ARGV[2])
  for p = 0, 1 do  -- the month, the day: as hermes/domain/quotas.py asks them
    local stored = redis.call('HMGET', KEYS[6 - p], 'messages', 'segments', 'micros')
    for k = 1, 3 do sums[3 * p + k] = math.max(tonumber(stored[k] or 0), quota[9 + 3 * p + k]) end
  end
end

-- {who refuses the next one, limit, remaining, wait}; nobody: 0, the narrowest rate's limit, and what is left before it
local function next_one(before)
  local limit, left = 0, -1
  -- When rates were lowered more than one has to leave; those that came with this one leave last.
  local function wait(log, most, had)
    local leaves = redis.call('ZRANGE', log, had - most, had - most, 'WITHSCORES')
    return math.max((tonumber(leaves[2]) or now) + window - now, 0)
  end
  if rate > 0 then
    left = math.max(rate - sent, 0) + math.floor(credit)
    if left <= 0 then return 1, rate, 0, wait(KEYS[1], rate, sent) end
    limit = rate
  end
  if channel_rate > 0 then
    local its = channel_rate - channel_sent
    if its <= 0 then return 2, channel_rate, 0, wait(KEYS[3], channel_rate, channel_sent) end
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
  if counts_ms > 0 and before == 0 and redis.call('EXISTS', KEYS[4]) == 1 then
    return 3, 0, 0, redis.call('PTTL', KEYS[4]) * 1000
  end
  return 0, limit, left, 0
end

local function answer(goes, limit, remaining, ...)
  local text = {}
  for k, one in ipairs({goes, limit, math.max(remaining, 0), ...}) do text[k] = string.format('%.0f', one) end
  return table.concat(text, ' ')
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
if goes == 0 or not counts then return answer(goes, limit, remaining, who, its_limit, its_left, its_wait) end

-- What goes: written once.
local keep_ms = math.ceil(window / 1000)
local at = string.format('%.0f', now)
local function count(log)
  -- Two in one microsecond are two: the name is one that nobody has.
  local name, members = at, {}
  while redis.call('ZSCORE', log, name) do name = name .. '+' end
  for k = 1, goes do
    members[2 * k - 1], members[2 * k] = at, k == 1 and name or name .. ':' .. k
  end
  redis.call('ZADD', log, unpack(members))
  redis.call('PEXPIRE', log, keep_ms)
end
if counts_ms > 0 then redis.call('SET', KEYS[4], 1, 'PX', counts_ms) end
if rate > 0 then
  count(KEYS[1])
  if burst > 0 then
    redis.call('HSET', KEYS[2], 'credit', tostring(credit), 'last', at)
    redis.call('PEXPIRE', KEYS[2], keep_ms + math.ceil(burst / rate * 1000))
  end
end
if channel_rate > 0 then count(KEYS[3]) end
if quota then
  for p = 0, 1 do
    local sum = {}
    for k = 1, 3 do sum[k] = string.format('%.0f', sums[3 * p + k]) end
    redis.call('HSET', KEYS[6 - p], 'messages', sum[1], 'segments', sum[2], 'micros', sum[3])
    redis.call('PEXPIRE', KEYS[6 - p], quota[18 + p])
  end
end
return answer(goes, limit, remaining, who, its_limit, its_left, its_wait)
