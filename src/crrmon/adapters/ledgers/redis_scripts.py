"""What the Redis ledger runs inside the server: each script is atomic, and changes all or nothing.

Numbers that must be exact travel as strings: those of Lua are floats. Strings are never compared by order, for Lua
does that by the server's locale. `unpack` takes some thousand values at most; who calls sees to it.

A server that forgot a script (it was restarted, or a replica took over) is sent its text again (`redis_nodes`).
"""

import hashlib
from typing import Final

TEXTS: Final[dict[str, bytes]] = {}
"""All scripts by their digest."""


def _script(text: str) -> str:
    body = text.strip().encode()
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    TEXTS[digest] = body
    return digest


_LOOK = """
local at, key = 1, 0

-- Reads n trails of a shard, named from ARGV[at] on: its keys are live, days, and one for each of its days.
local function look(n, days)
  local live = redis.call('HMGET', KEYS[key + 1], unpack(ARGV, at, at + n - 1))
  local day, kept = {}, {}
  key = key + 2
  for name in string.gmatch(days, '%d+') do
    key = key + 1
    local found = redis.call('HMGET', KEYS[key], unpack(ARGV, at, at + n - 1))
    for i = 1, n do
      if found[i] then
        day[i], kept[i] = name, found[i]
      end
    end
  end
  return live, day, kept
end
"""

READ: Final = _script(
    _LOOK
    + """
-- ARGV: for each shard the number of trails, its days as they are known, and the trails.
-- Returns a list for each shard: of what was found the place, live, day and kept; or its days if they are others.
local told = {}
while at <= #ARGV do
  local n, days = tonumber(ARGV[at]), ARGV[at + 1]
  at = at + 2
  local now = redis.call('GET', KEYS[key + 2]) or ''
  if now ~= days then
    told[#told + 1] = now
    local _, count = string.gsub(days, '%d+', '')
    key = key + 2 + count
  else
    local live, day, kept = look(n, days)
    local found = {}
    for i = 1, n do
      if live[i] or kept[i] then
        local size = #found
        found[size + 1], found[size + 2], found[size + 3], found[size + 4] =
          i - 1, live[i] or '', day[i] or '', kept[i] or ''
      end
    end
    told[#told + 1] = found
  end
  at = at + n
end
return told
"""
)

WRITE: Final = _script(
    _LOOK
    + """
-- ARGV: the number of shards; for each the number of trails, its days as they are known, trails and tags; then
-- commands, each with its key's place in KEYS and the number of its other arguments.
-- Returns nothing when it did all that; else what was not as expected: days of shards, and places of trails.
local shards, first = tonumber(ARGV[1]), 0
local others, turned = {}, {}
at = 2
for shard = 1, shards do
  local n, days = tonumber(ARGV[at]), ARGV[at + 1]
  at = at + 2
  local now = redis.call('GET', KEYS[key + 2]) or ''
  if now ~= days then
    turned[#turned + 1] = shard - 1
    turned[#turned + 1] = now
    local _, count = string.gsub(days, '%d+', '')
    key = key + 2 + count
  else
    local live, day, kept = look(n, days)
    for i = 1, n do
      local tag = ''
      if live[i] or kept[i] then
        tag = (day[i] or '') .. ' ' .. (live[i] and redis.sha1hex(live[i]) or '')
          .. ' ' .. (kept[i] and redis.sha1hex(kept[i]) or '')
      end
      if tag ~= ARGV[at + n + i - 1] then
        others[#others + 1] = first + i - 1
      end
    end
  end
  first = first + n
  at = at + 2 * n
end
if #others > 0 or #turned > 0 then
  return {turned, others}
end
while at <= #ARGV do
  local name, place, n = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  if name == 'SUM' then
    for i = at, at + n - 1, 2 do
      if redis.call('HINCRBY', place, ARGV[i], ARGV[i + 1]) == 0 then
        redis.call('HDEL', place, ARGV[i])
      end
    end
  else
    redis.call(name, place, unpack(ARGV, at, at + n - 1))
  end
  at = at + n
end
return false
"""
)

SWEEP: Final = _script(
    """
-- KEYS: days, one day's hash. ARGV: the days as they are known, and without this one, the field of the count.
-- Returns how many were dropped; nothing if the days are others by now.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return false
end
local count = redis.call('HGET', KEYS[2], ARGV[3]) or '0'
redis.call('UNLINK', KEYS[2])
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return count
"""
)

PAGE: Final = _script(
    """
-- KEYS: a sorted set. ARGV: how many; and score and member to begin after.
local start = 0
if ARGV[2] then
  local function after(one, other)
    for i = 1, math.min(#one, #other) do
      local a, b = string.byte(one, i), string.byte(other, i)
      if a ~= b then
        return a > b
      end
    end
    return #one > #other
  end
  start = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[2])
  local stop = redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[2])
  while start < stop do
    local middle = math.floor((start + stop) / 2)
    if after(redis.call('ZRANGE', KEYS[1], middle, middle)[1], ARGV[3]) then
      stop = middle
    else
      start = middle + 1
    end
  end
end
return redis.call('ZRANGE', KEYS[1], start, start + tonumber(ARGV[1]) - 1, 'WITHSCORES')
"""
)

_LEASE = """
local function lease(shard)
  local epoch, beat, owner = string.match(redis.call('HGET', KEYS[1], shard) or '0 0 ', '^(%d+) (%d+) (.*)$')
  return tonumber(epoch), tonumber(beat), owner
end

local function keep(shard, epoch, beat, owner)
  local body = string.format('%d %d ', epoch, beat) .. owner
  redis.call('HSET', KEYS[1], shard, body)
  return body
end
"""

CLAIM: Final = _script(
    _LEASE
    + """
-- KEYS: leases. ARGV: shard, epoch and beat seen, owner. Returns the lease as taken, or nothing.
local epoch, beat, owner = lease(ARGV[1])
local seen = tonumber(ARGV[2])
if epoch == seen + 1 and owner == ARGV[4] then
  return string.format('%d %d ', epoch, beat) .. owner
end
if epoch ~= seen or beat ~= tonumber(ARGV[3]) then
  return false
end
return keep(ARGV[1], epoch + 1, beat + 1, ARGV[4])
"""
)

TOUCH: Final = _script(
    _LEASE
    + """
-- KEYS: leases. ARGV: 'renew' or 'release'; then shard, epoch and owner of each. Returns for each whether it is held:
-- the lease as it is now, or ''.
local told = {}
for i = 2, #ARGV, 3 do
  local epoch, beat, owner = lease(ARGV[i])
  local now = ''
  if owner ~= '' and owner == ARGV[i + 2] and epoch == tonumber(ARGV[i + 1]) then
    if ARGV[1] == 'renew' then
      now = keep(ARGV[i], epoch, beat + 1, owner)
    else
      now = keep(ARGV[i], epoch, beat, '')
    end
  end
  told[#told + 1] = now
end
return told
"""
)

FREEZE: Final = _script(
    _LEASE
    + """
-- KEYS: leases, last, frozen, taken, the window. ARGV: epoch and owner, start, ids of contributions ('' for none),
-- number of parts; then number and body of each part that has one. Returns the lease of shard 0 if it is another.
local epoch, beat, owner = lease('0')
if owner == '' or owner ~= ARGV[2] or epoch ~= tonumber(ARGV[1]) then
  return {string.format('%d %d ', epoch, beat) .. owner}
end
local last = redis.call('GET', KEYS[2])
if (last and tonumber(last) == tonumber(ARGV[3])) or redis.call('ZSCORE', KEYS[3], ARGV[3])
  or redis.call('HEXISTS', KEYS[4], ARGV[3]) == 1 then
  return 'stood'
end
if #ARGV > 5 then
  redis.call('HSET', KEYS[5], 'n', ARGV[5])
  for i = 6, #ARGV, 2 do
    redis.call('HSET', KEYS[5], ARGV[i], ARGV[i + 1])
  end
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[3])
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[4], ARGV[3], ARGV[4])
end
if not last or tonumber(last) < tonumber(ARGV[3]) then
  redis.call('SET', KEYS[2], ARGV[3])
end
return 'frozen'
"""
)

FORGET: Final = _script(
    _LEASE
    + """
-- KEYS: leases, frozen, the window. ARGV: epoch and owner, start, part. Returns the lease of shard 0 if it is another.
local epoch, beat, owner = lease('0')
if owner == '' or owner ~= ARGV[2] or epoch ~= tonumber(ARGV[1]) then
  return {string.format('%d %d ', epoch, beat) .. owner}
end
redis.call('HDEL', KEYS[3], ARGV[4])
if redis.call('HLEN', KEYS[3]) <= 1 then
  redis.call('UNLINK', KEYS[3])
  redis.call('ZREM', KEYS[2], ARGV[3])
end
return 'forgotten'
"""
)

CLEAR: Final = _script(
    """
-- KEYS: a hash. ARGV: a field, and the value that it must have to be dropped.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 'cleared'
"""
)

SWAP: Final = _script(
    """
-- KEYS: a hash. ARGV: a field, what it must be and what it becomes, each behind a '+', or '-' for none.
-- Returns 1 if it is what it was to become.
local now = redis.call('HGET', KEYS[1], ARGV[1])
local state = now and ('+' .. now) or '-'
if state == ARGV[2] then
  if ARGV[3] == '-' then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('HSET', KEYS[1], ARGV[1], string.sub(ARGV[3], 2))
  end
  return 1
end
return state == ARGV[3] and 1 or 0
"""
)

REHEARSE: Final = _script(
    """
-- KEYS: meta, a key that is not there. Returns the error of the first command that the user may not run, else nothing.
-- Changes nothing: meta is a string, and what it is asked here is for other types.
local commands = {
  {'HSET', KEYS[1], 'f', 'v'}, {'HSETNX', KEYS[1], 'f', 'v'}, {'HINCRBY', KEYS[1], 'f', '1'}, {'HDEL', KEYS[1], 'f'},
  {'HGET', KEYS[1], 'f'}, {'HMGET', KEYS[1], 'f'}, {'HGETALL', KEYS[1]}, {'HLEN', KEYS[1]}, {'HEXISTS', KEYS[1], 'f'},
  {'ZADD', KEYS[1], '1', 'm'}, {'ZREM', KEYS[1], 'm'}, {'ZRANGE', KEYS[1], '0', '0'}, {'ZRANK', KEYS[1], 'm'},
  {'ZCOUNT', KEYS[1], '0', '1'}, {'ZSCORE', KEYS[1], 'm'}, {'ZRANGEBYSCORE', KEYS[1], '0', '1'},
  {'SADD', KEYS[1], 'm'}, {'SMEMBERS', KEYS[1]},
  {'GET', KEYS[1]}, {'SET', KEYS[2], '', 'XX'}, {'DEL', KEYS[2]}, {'UNLINK', KEYS[2]},
}
for _, command in ipairs(commands) do
  local told = redis.pcall(unpack(command))
  if type(told) == 'table' and told.err then
    local text = told.err
    if string.find(text, 'NOPERM') or string.find(text, "can't run") or string.find(text, "can't access") then
      return command[1]
    end
  end
end
return false
"""
)
