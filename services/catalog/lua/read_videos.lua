-- The records of some videos, in this order, in one answer: a command each would cost a page most of its time.
-- KEYS: marker, then the videos    ARGV: bytes that are enough
-- Returns the records (false for none), up to the one with which they are more than enough, but two at least: a reader
-- learns of the second that the first is not all. Nothing at all where there is no index.
if redis.call('EXISTS', KEYS[1]) == 0 then
    return false
end
local enough = tonumber(ARGV[1])
local records, found, size = {}, 0, 0
for at = 2, #KEYS do
    local record = redis.call('HGET', KEYS[at], 'record')
    records[at - 1] = record
    if record then
        found, size = found + 1, size + #record
        if found > 1 and size > enough then
            break
        end
    end
end
return records
