-- Put one record and everything that points to it in a single step.
-- KEYS: marker, video, numbers, unsaved, deleting, owner set
-- ARGV: expected version (0: must be new), version, record, video id, number, "living"|"deleting"|"deleted",
--       mark, now
-- Returns 'OK', 'CONFLICT', 'MISSING' (no index), or the record that is there (create only).
local marker, video, numbers, unsaved, deleting, owned =
    KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local expected, version, record, id, number, life, mark, now =
    tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

if redis.call('EXISTS', marker) == 0 then
    return 'MISSING'
end
local current = redis.call('HGET', video, 'version')
if expected == 0 and current then
    return redis.call('HGET', video, 'record')
end
if expected ~= 0 and tonumber(current or '0') ~= expected then
    return 'CONFLICT'
end
redis.call('HSET', video, 'version', version, 'record', record)
redis.call('HSET', numbers, number, id)
if life == 'living' then
    redis.call('ZADD', owned, number, id)
else
    redis.call('ZREM', owned, id)
end
if life == 'deleting' then
    redis.call('SADD', deleting, id)
else
    redis.call('SREM', deleting, id)
end
if mark ~= '' then
    redis.call('ZADD', unsaved, now, id .. '/' .. mark)
end
return 'OK'
