-- Counts one message against all limits at once, or says what refuses it. The same rules as local.py; the clock is
-- Redis's own, so that workers on machines whose clocks differ share one second.
-- KEYS: 1 the tenant's log, 2 its burst, 3 the channel's log, 4 the message; with quotas 5 the day's sums, 6 the month's
-- ARGV: 1 rate, 2 burst, 3 channel rate, 4 window in us, 5 for how long the message counts as sent, in ms (0: it does not),
--       6 whether to count (1) or only to look (0); with quotas, each for messages, segments and millionths of money:
--       7-9 limits of the month, 10-12 of the day, 13-15 what the message adds, 16-18 the least that counts as accepted in
--       the month, 19-21 in the day; 22 spent beyond what was expected in the month, 23 in the day; 24 for how long to
--       keep the day's sums, 25 the month's, in ms
-- Returns {who refuses (0 nobody, 1 tenant, 2 channel, 3 duplicate, 4 and on the quota of limit 7 and on), limit,
--       remaining, wait in us}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = tonumber(ARGV[4])
local limit, remaining = 0, -1

local function credits(key, rate, burst)
  local known = redis.call('HMGET', key, 'credit', 'last')
  if not known[1] then return burst end
  local rest = now - tonumber(known[2]) - window
  local credit = tonumber(known[1])
  if rest > 0 then credit = credit + rest * rate / 1000000 end
  return math.min(burst, credit)
end

-- {may go, remaining after it, wait}
local function look(log, rate, credit)
  redis.call('ZREMRANGEBYSCORE', log, '-inf', now - window)
  local sent = redis.call('ZCARD', log)
  local left = math.max(rate - sent, 0) + math.floor(credit)
  if left > 0 then return true, left - 1, 0, sent end
  local leaves = redis.call('ZRANGE', log, sent - rate, sent - rate, 'WITHSCORES')
  return false, 0, math.max(tonumber(leaves[2]) + window - now, 0), sent
end

local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local credit, sent = 0, 0
if rate > 0 then
  if burst > 0 then credit = credits(KEYS[2], rate, burst) end
  local goes, left, wait, n = look(KEYS[1], rate, credit)
  if not goes then return {1, rate, 0, wait} end
  limit, remaining, sent = rate, left, n
end
local channel_rate = tonumber(ARGV[3])
if channel_rate > 0 then
  local goes, left, wait = look(KEYS[3], channel_rate, 0)
  if not goes then return {2, channel_rate, 0, wait} end
  if remaining < 0 or left < remaining then limit, remaining = channel_rate, left end
end
local sums = {}
if KEYS[5] then
  for p = 0, 1 do  -- the month, the day: as hermes/domain/quotas.py asks them
    local stored = redis.call('HMGET', KEYS[6 - p], 'messages', 'segments', 'micros')
    for n = 1, 3 do
      local used = math.max(tonumber(stored[n] or 0), tonumber(ARGV[15 + 3 * p + n]))
      local quota, adds = tonumber(ARGV[6 + 3 * p + n]), tonumber(ARGV[12 + n])
      sums[3 * p + n] = used + adds
      if n == 3 then used = used + tonumber(ARGV[22 + p]) end
      if quota > 0 and adds > 0 and used + adds > quota then
        return {3 + 3 * p + n, quota, math.max(quota - used, 0), 0}
      end
    end
  end
end
local counts_ms = tonumber(ARGV[5])
if counts_ms > 0 and redis.call('EXISTS', KEYS[4]) == 1 then
  return {3, 0, 0, redis.call('PTTL', KEYS[4]) * 1000}
end
if ARGV[6] == '0' then return {0, limit, math.max(remaining, 0), 0} end
if counts_ms > 0 then redis.call('SET', KEYS[4], 1, 'PX', counts_ms) end

local keep_ms = math.ceil(window / 1000)
local function count(log)
  -- Two in one microsecond are two: the second one's member is longer.
  local member = string.format('%.0f', now)
  while redis.call('ZADD', log, 'NX', now, member) == 0 do member = member .. '+' end
  redis.call('PEXPIRE', log, keep_ms)
end
if rate > 0 then
  count(KEYS[1])
  if burst > 0 then
    if sent >= rate then credit = credit - 1 end
    redis.call('HSET', KEYS[2], 'credit', tostring(credit), 'last', string.format('%.0f', now))
    redis.call('PEXPIRE', KEYS[2], keep_ms + math.ceil(burst / rate * 1000))
  end
end
if channel_rate > 0 then count(KEYS[3]) end
if KEYS[5] then
  for p = 0, 1 do
    local sum = {}
    for n = 1, 3 do sum[n] = string.format('%.0f', sums[3 * p + n]) end
    redis.call('HSET', KEYS[6 - p], 'messages', sum[1], 'segments', sum[2], 'micros', sum[3])
    redis.call('PEXPIRE', KEYS[6 - p], ARGV[25 - p])
  end
end
return {0, limit, math.max(remaining, 0), 0}
