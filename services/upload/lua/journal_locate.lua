-- The upload, and the extents that hold a range of one of its versions, as of one moment.
-- KEYS: journal, extents
-- ARGV: offset, length (0: no extents), size of the version (-1: the current one), etag of the version, most extents
-- Returns {'MISSING'}, {'CHANGED'} or {'OK', flat hash, size of the version, members}.
local journal, extents = KEYS[1], KEYS[2]
local offset, length, version, etag = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

local fields = redis.call('HGETALL', journal)
if #fields == 0 then
    return {'MISSING'}
end
local size = redis.call('HGET', journal, 'size')
if version >= 0 then
    -- The extent that ends the version keeps its entity tag.
    local last = redis.call('ZRANGE', extents, '(' .. ARGV[3], '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1)[1]
    if not last then
        return {'CHANGED'}
    end
    local _, _, start, long, tag = string.find(last, '^(%d+)%S* (%d+) (.+)$')
    if tag ~= etag or tonumber(start) + tonumber(long) ~= version then
        return {'CHANGED'}
    end
    size = ARGV[3]
end
local members = {}
if length > 0 then
    local first = redis.call('ZRANGE', extents, ARGV[1], '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1)
    local stop = string.format('(%.0f', math.min(offset + length, tonumber(size)))
    members = redis.call('ZRANGE', extents, '(' .. ARGV[1], stop, 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[5]) - 1)
    if first[1] then
        table.insert(members, 1, first[1])
    end
end
return {'OK', fields, size, members}
