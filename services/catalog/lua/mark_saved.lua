-- Take an unsaved mark off, unless the record has moved on meanwhile.
-- KEYS: video, unsaved    ARGV: version that was saved, member
-- Returns 1 if the saved version is current, 0 if a newer one must be saved first, -1 if the index knows of no such
-- version: it was emptied since, and made again without it.
local current = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
local saved = tonumber(ARGV[1])
if current < saved then
    return -1
end
if current > saved then
    return 0
end
redis.call('ZREM', KEYS[2], ARGV[2])
return 1
