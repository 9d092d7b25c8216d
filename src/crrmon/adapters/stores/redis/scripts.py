"""What the Redis store runs inside the server: each script is atomic, and changes all or nothing.

Numbers that must be exact travel as strings: those of Lua are floats. Strings are never compared by order, for Lua
does that by the server's locale. `unpack` takes some thousand values at most; who calls sees to it.

A server that forgot a script (it was restarted, or a replica took over) is sent its text again (`nodes`).
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

-- Reads n unordered items of a group, named from ARGV[at] on: its keys are those that are due, the days, and those of each
-- day. Returns of each where it is, and its body.
local function look(n, days)
  local body, where = redis.call('HMGET', KEYS[key + 1], unpack(ARGV, at, at + n - 1)), {}
  local left = n
  for i = 1, n do
    if body[i] then
      where[i], left = 'due', left - 1
    end
  end
  key = key + 2
  for name in string.gmatch(days, '%d+') do
    key = key + 1
    if left > 0 then
      local found = redis.call('HMGET', KEYS[key], unpack(ARGV, at, at + n - 1))
      for i = 1, n do
        if found[i] and not where[i] then
          where[i], body[i], left = name, found[i], left - 1
        end
      end
    end
  end
  return where, body
end

-- Passes over the keys of a group of which the days are others than those known.
local function pass(days)
  local _, count = string.gsub(days, '%d+', '')
  key = key + 2 + count
end
"""

READ: Final = _script(
    _LOOK
    + """
-- ARGV: for each group the number of items, its days as they are known, and the items.
-- Returns a list for each group: of what was found the place, where and body; or its days if they are others.
local told = {}
while at <= #ARGV do
  local n, days = tonumber(ARGV[at]), ARGV[at + 1]
  at = at + 2
  local now = redis.call('GET', KEYS[key + 2]) or ''
  if now ~= days then
    told[#told + 1] = now
    pass(days)
  else
    local where, body = look(n, days)
    local found = {}
    for i = 1, n do
      if where[i] then
        local size = #found
        found[size + 1], found[size + 2], found[size + 3] = i - 1, where[i], body[i]
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
-- ARGV: the number of groups; for each the number of unordered items, its days as they are known, items and tags; the
-- number of ordered items that are compared; for each its hash's place in KEYS, its name and its tag; then commands, each
-- with its key's place in KEYS and the number of its other arguments.
-- Returns nothing when it did all that; else what was not as expected: days of groups, places of unordered items, and
-- places of ordered ones.
local groups, first = tonumber(ARGV[1]), 0
local turned, others, changed = {}, {}, {}
at = 2
for group = 1, groups do
  local n, days = tonumber(ARGV[at]), ARGV[at + 1]
  at = at + 2
  local now = redis.call('GET', KEYS[key + 2]) or ''
  if now ~= days then
    turned[#turned + 1] = group - 1
    turned[#turned + 1] = now
    pass(days)
  else
    local where, body = look(n, days)
    for i = 1, n do
      local tag = where[i] and (where[i] .. ' ' .. redis.sha1hex(body[i])) or ''
      if tag ~= ARGV[at + n + i - 1] then
        others[#others + 1] = first + i - 1
      end
    end
  end
  first = first + n
  at = at + 2 * n
end
local compared = tonumber(ARGV[at])
at = at + 1
for i = 1, compared do
  local body = redis.call('HGET', KEYS[tonumber(ARGV[at])], ARGV[at + 1])
  if (body and redis.sha1hex(body) or '') ~= ARGV[at + 2] then
    changed[#changed + 1] = i - 1
  end
  at = at + 3
end
if #turned + #others + #changed > 0 then
  return {turned, others, changed}
end
while at <= #ARGV do
  local name, place, n = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  redis.call(name, place, unpack(ARGV, at, at + n - 1))
  at = at + n
end
return false
"""
)

SCAN: Final = _script(
    """
-- KEYS: an order, its hash. ARGV: the command that reads the range, from, to, and how many ('' for all).
-- Returns names and bodies, in order.
local names
if ARGV[4] == '' then
  names = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3])
else
  names = redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
end
local told = {}
for start = 1, #names, 1000 do
  local stop = math.min(start + 999, #names)
  local bodies = redis.call('HMGET', KEYS[2], unpack(names, start, stop))
  for i = start, stop do
    told[2 * i - 1], told[2 * i] = names[i], bodies[i - start + 1] or ''
  end
end
return told
"""
)

DROP_DAY: Final = _script(
    """
-- KEYS: days, one day's hash. ARGV: the days as they are known, and without this one.
-- Returns how many were dropped; nothing if the days are others by now.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return false
end
local count = redis.call('HLEN', KEYS[2])
redis.call('UNLINK', KEYS[2])
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return count
"""
)

EXPIRE: Final = _script(
    """
-- KEYS: a hash, its order, its expiries. ARGV: the time, and how many at the most. Returns how many were dropped.
local names = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #names > 0 then
  redis.call('HDEL', KEYS[1], unpack(names))
  redis.call('ZREM', KEYS[2], unpack(names))
  redis.call('ZREM', KEYS[3], unpack(names))
end
return #names
"""
)

REHEARSE: Final = _script(
    """
-- KEYS: one that is not there. Returns the first command that the user may not run, else nothing. What it writes is gone
-- again when it ends.
local commands = {
  {'DEL', KEYS[1]}, {'UNLINK', KEYS[1]},
  {'HSET', KEYS[1], 'f', 'v'}, {'HDEL', KEYS[1], 'f'}, {'HGET', KEYS[1], 'f'}, {'HMGET', KEYS[1], 'f'},
  {'HGETALL', KEYS[1]}, {'HLEN', KEYS[1]}, {'DEL', KEYS[1]},
  {'ZADD', KEYS[1], '1', 'm'}, {'ZREM', KEYS[1], 'm'}, {'ZRANGEBYSCORE', KEYS[1], '0', '1'},
  {'ZRANGEBYLEX', KEYS[1], '-', '+'}, {'ZREVRANGEBYLEX', KEYS[1], '+', '-'}, {'DEL', KEYS[1]},
  {'SET', KEYS[1], '1'}, {'GET', KEYS[1]}, {'DEL', KEYS[1]},
}
for _, command in ipairs(commands) do
  local told = redis.pcall(unpack(command))
  if type(told) == 'table' and told.err then
    local text = told.err
    if string.find(text, 'NOPERM') or string.find(text, "can't run") or string.find(text, "can't access") then
      redis.pcall('DEL', KEYS[1])
      return command[1]
    end
  end
end
return false
"""
)
