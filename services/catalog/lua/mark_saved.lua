-- Take an unsaved mark off, unless the record has moved on meanwhile.
-- KEYS: video, unsaved    ARGV: version that was saved, member
-- Returns 1 if the saved version is current, 0 if a newer one must be saved first, -1 if there is no such video.
local current = redis.call('HGET', KEYS[1], 'version')
if not current then
    return -1
end
if current ~= ARGV[1] then
    return 0
end
redis.call('ZREM', KEYS[2], ARGV[2])
return 1
