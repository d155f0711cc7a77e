-- The records of some videos, in this order, in one answer: a command each would cost a page most of its time.
-- KEYS: marker, then the videos
-- Returns the records (false for none), or nothing at all where there is no index.
if redis.call('EXISTS', KEYS[1]) == 0 then
    return false
end
local records = {}
for at = 2, #KEYS do
    records[at - 1] = redis.call('HGET', KEYS[at], 'record')
end
return records
