-- Make a chunk that is in S3 part of the upload: the one step by which an upload grows.
-- KEYS: journal, extents, idempotency keys
-- ARGV: as they are named below. `begins`: 1 if it begins a clip, else 0. `stored`: S3's etag of the chunk. `expected`:
--       the offset that its client wants, '': any. `key`: its idempotency key, '': none. `most_clips_bytes`: most bytes
--       of an upload of several clips. `swept`: Unix time from which on the chunk may be swept.
-- Returns {'OK', offset, size, etag}; {'DONE', those of the first call with this key}; or {reason, size or state}.
local journal, extents, keys = unpack(KEYS)
local caller, offset, length, name, begins, stored, expected, key, now, container,
    most_chunks, most_bytes, most_clips, most_clips_bytes, swept = unpack(ARGV)

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
local there = redis.call('ZRANGE', extents, offset, offset, 'BYSCORE')[1]
if there and string.sub(there, 1, #name + 1) == name .. ' ' then
    local _, _, its_length, its_etag = string.find(there, '^%S+ (%d+) (.+)$')
    return {'OK', offset, string.format('%.0f', offset + its_length), its_etag}
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
if offset ~= size then
    return {'MOVED', size}
end
if tonumber(chunks) >= tonumber(most_chunks) then
    return {'CHUNKS', ''}
end
local grown = offset + length
if grown > tonumber(most_bytes) then
    return {'BYTES', ''}
end
local new_clips = tonumber(clips)
if offset == '0' or begins == '1' then
    new_clips = new_clips + 1
end
if new_clips > tonumber(most_clips) then
    return {'CLIPS', ''}
end
if new_clips > 1 and grown > tonumber(most_clips_bytes) then
    return {'CLIPS_BYTES', ''}
end

-- Whoever brings it slept since it was stored.
if tonumber(redis.call('TIME')[1]) >= tonumber(swept) then
    return {'LATE', ''}
end

local new_size = string.format('%.0f', grown)
local chain = string.sub(redis.sha1hex(etag .. stored .. new_size), 1, 32)
local new_etag = string.format('"%s-%x"', chain, grown)
redis.call('ZADD', extents, offset, name .. ' ' .. length .. ' ' .. new_etag)
redis.call('HSET', journal, 'size', new_size, 'etag', new_etag, 'chunks', chunks + 1, 'clips', new_clips,
    'modified', now)
if offset == '0' then
    redis.call('HSET', journal, 'container', container)
end
if key ~= '' then
    redis.call('HSET', keys, key, offset .. ' ' .. new_size .. ' ' .. new_etag)
end
return {'OK', offset, new_size, new_etag}
