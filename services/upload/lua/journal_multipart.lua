-- Note the compaction's multipart upload, unless another replaced the one that the caller knew.
-- KEYS: journal    ARGV: upload id; the one that it stands instead of
-- Returns the one that stands.
local now = redis.call('HGET', KEYS[1], 'multipart')
if now ~= ARGV[2] then
    return now
end
redis.call('HSET', KEYS[1], 'multipart', ARGV[1])
return ARGV[1]
