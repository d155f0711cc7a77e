-- The number behind which a page begins that leaves out the first videos of several sorted sets by number.
-- KEYS: the sets    ARGV: the number above which to begin, how many to leave out
-- Returns it, and how many are left out: one that is in two of the sets counts twice.
local low, skip = tonumber(ARGV[1]), tonumber(ARGV[2])
local high = low
for _, set in ipairs(KEYS) do
    high = math.max(high, redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2] or 0)
end
local function count_to(number)
    local count = 0
    for _, set in ipairs(KEYS) do
        count = count + redis.call('ZCOUNT', set, '(' .. ARGV[1], string.format('%.0f', number))
    end
    return count
end
while low < high do
    local middle = math.floor((low + high) / 2)
    if count_to(middle) < skip then
        low = middle + 1
    else
        high = middle
    end
end
return { low, count_to(low) }
