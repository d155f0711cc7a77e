-- Put one record and everything that points to it in a single step.
-- KEYS: marker, video, numbers, unsaved, owners, then every sorted set that may have the video
-- ARGV: expected version (0: must be new), version, record, video id, number, mark, now, owner ('': none to note),
--       then for each sorted set the video's score; '': it is not in there; 'due': now, unless it is in there
-- Returns 'OK', 'CONFLICT', 'MISSING' (no index, or not the one that gave the number: it is another video's now), or
-- the record that is there (create only).
local marker, video, numbers, unsaved, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local expected, version, record, id, number, mark, now, owner =
    tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

if redis.call('EXISTS', marker) == 0 then
    return 'MISSING'
end
-- The client library repeats a call whose answer was lost: this very change may be in.
if redis.call('ZSCORE', unsaved, id .. '/' .. mark) and redis.call('HGET', video, 'record') == record then
    return 'OK'
end
local current = redis.call('HGET', video, 'version')
if expected == 0 and current then
    return redis.call('HGET', video, 'record')
end
if expected == 0 and redis.call('HEXISTS', numbers, number) == 1 then
    return 'MISSING'
end
if expected ~= 0 and tonumber(current or '0') ~= expected then
    return 'CONFLICT'
end
redis.call('HSET', video, 'version', version, 'record', record)
redis.call('HSET', numbers, number, id)
for at = 6, #KEYS do
    local score = ARGV[at + 3]
    if score == '' then
        redis.call('ZREM', KEYS[at], id)
    elseif score == 'due' then
        redis.call('ZADD', KEYS[at], 'NX', now, id)
    else
        redis.call('ZADD', KEYS[at], score, id)
    end
end
if owner ~= '' then
    redis.call('SADD', owners, owner)
end
redis.call('ZADD', unsaved, now, id .. '/' .. mark)
return 'OK'
