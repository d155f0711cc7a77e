-- The number behind which a page begins that leaves out the first videos of several sorted sets by number.
-- KEYS: what may be in two of the sets, then the sets    ARGV: the number above which to begin, how many to leave out
-- Returns nothing where there is something in the first: it would be counted twice.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return false
end
local low, skip = tonumber(ARGV[1]), tonumber(ARGV[2])
local high = low
for at = 2, #KEYS do
    high = math.max(high, redis.call('ZRANGE', KEYS[at], -1, -1, 'WITHSCORES')[2] or 0)
end
while low < high do
    local middle, count = math.floor((low + high) / 2), 0
    for at = 2, #KEYS do
        count = count + redis.call('ZCOUNT', KEYS[at], '(' .. ARGV[1], string.format('%.0f', middle))
    end
    if count < skip then
        low = middle + 1
    else
        high = middle
    end
end
return low
