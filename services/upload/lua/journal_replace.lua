-- Set a field of a journal, unless its value is another than the one that the caller knew.
-- KEYS: journal    ARGV: field, value, the value that it stands instead of
-- Returns the value that stands; none where there is no journal.
local now = redis.call('HGET', KEYS[1], ARGV[1])
if now ~= ARGV[3] then
    return now
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ARGV[2]
