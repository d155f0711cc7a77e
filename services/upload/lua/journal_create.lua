-- Add a journal unless there is one; its extents, if it has any, wait under the third key.
-- KEYS: journal, extents, extents to take over    ARGV: field, value, …
-- Returns 1 if it was added, 0 if there is one.
if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('DEL', KEYS[3])
    return 0
end
if redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('RENAME', KEYS[3], KEYS[2])
    redis.call('PERSIST', KEYS[2])
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
