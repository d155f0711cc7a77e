-- Make a chunk that is in S3 part of the upload: the one step by which an upload grows.
-- KEYS: journal, extents, idempotency keys
-- ARGV: caller, offset, length, name, begins a clip (1 or 0), S3's etag of the chunk, expected offset ('': any), idempotency key
--       ('': none), now, container, most chunks, most bytes, most clips, most bytes of several
--       clips, Unix time from which on the chunk may be swept
-- Returns {'OK', offset, size, etag}, or {reason, size or state}.
local journal, extents, keys = KEYS[1], KEYS[2], KEYS[3]
local caller, offset, length, name, begins = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local sum, expected, key, now, container = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local most_chunks, most_bytes = tonumber(ARGV[11]), tonumber(ARGV[12])
local most_clips, most_clips_bytes = tonumber(ARGV[13]), tonumber(ARGV[14])

local state, owner, size, etag, chunks, clips =
    unpack(redis.call('HMGET', journal, 'state', 'owner', 'size', 'etag', 'chunks', 'clips'))
if not state then
    return {'MISSING', ''}
end
if owner ~= '' and owner ~= caller then
    return {'OWNER', ''}
end
-- The client library repeats a call whose answer was lost: this very chunk may be in. Asked before the idempotency
-- key, which it then has stored itself: to be told that another chunk came first is to remove one's own.
local there = redis.call('ZRANGE', extents, ARGV[2], ARGV[2], 'BYSCORE')[1]
if there and string.sub(there, 1, #name + 1) == name .. ' ' then
    local _, _, long, tag = string.find(there, '^%S+ (%d+) (.+)$')
    return {'OK', ARGV[2], string.format('%.0f', offset + tonumber(long)), tag}
end
if key ~= '' then
    local first = redis.call('HGET', keys, key)
    if first then
        return {'DONE', first}
    end
end
if state ~= 'open' then
    return {'STATE', state}
end
if expected ~= '' and expected ~= size then
    return {'OFFSET', size}
end
if tonumber(size) ~= offset then
    return {'MOVED', size}
end
if tonumber(chunks) >= most_chunks then
    return {'CHUNKS', ''}
end
if offset + length > most_bytes then
    return {'BYTES', ''}
end
local new_clips = tonumber(clips)
if offset == 0 or begins == '1' then
    new_clips = new_clips + 1
end
if new_clips > most_clips then
    return {'CLIPS', ''}
end
if new_clips > 1 and offset + length > most_clips_bytes then
    return {'CLIPS_BYTES', ''}
end

-- Whoever brings it slept since it was stored.
if tonumber(redis.call('TIME')[1]) >= tonumber(ARGV[15]) then
    return {'LATE', ''}
end

local grown = offset + length
local new_size = string.format('%.0f', grown)
local chain = string.sub(redis.sha1hex(etag .. sum .. new_size), 1, 32)
local new_etag = string.format('"%s-%x"', chain, grown)
redis.call('ZADD', extents, offset, name .. ' ' .. ARGV[3] .. ' ' .. new_etag)
redis.call('HSET', journal, 'size', new_size, 'etag', new_etag, 'chunks', tonumber(chunks) + 1, 'clips', new_clips,
    'modified', now)
if offset == 0 then
    redis.call('HSET', journal, 'container', container)
end
if key ~= '' then
    redis.call('HSET', keys, key, ARGV[2] .. ' ' .. new_size .. ' ' .. new_etag)
end
return {'OK', ARGV[2], new_size, new_etag}
