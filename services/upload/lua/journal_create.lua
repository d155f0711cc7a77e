-- Add a journal unless there is one; its extents, if it has any, wait under the third key.
-- KEYS: journal, extents, extents to take over    ARGV: how many those are; field, value, …
-- Returns 1 if it was added, 0 if there is one, -1 if some of them were lost: they came in calls before this one.
if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('DEL', KEYS[3])
    return 0
end
local count = redis.call('ZCARD', KEYS[3])
if count ~= tonumber(ARGV[1]) then
    return -1
end
if count > 0 then
    redis.call('RENAME', KEYS[3], KEYS[2])
    redis.call('PERSIST', KEYS[2])
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
