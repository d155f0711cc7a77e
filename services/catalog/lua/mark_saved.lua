-- Take an unsaved mark off, unless the record has moved on meanwhile.
-- KEYS: video, unsaved    ARGV: version that was saved, member, SHA-1 of what was saved
-- Returns 1 if the saved version is current, 0 if a newer one must be saved first, -1 if the index knows nothing of
-- this change: it was emptied since, and made again without it.
local current = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
local saved, member = tonumber(ARGV[1]), ARGV[2]
if current < saved then
    return -1
end
-- The mark is gone: the index was made again, and these version numbers belong to other changes now; unless this very
-- record is current: then the sweeper was here, or this call was, and its answer was lost.
if not redis.call('ZSCORE', KEYS[2], member)
    and redis.sha1hex(redis.call('HGET', KEYS[1], 'record')) ~= ARGV[3] then
    return -1
end
if current > saved then
    return 0
end
redis.call('ZREM', KEYS[2], member)
redis.call('HSET', KEYS[1], 'saved', saved)
return 1
