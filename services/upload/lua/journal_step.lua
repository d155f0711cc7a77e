-- Take the journal from one state to the next.
-- KEYS: journal    ARGV: states it may be in, separated by spaces; the new state; field, value, …
-- Returns 1 if it is in the new state now, 0 if it was in none of those states, -1 if there is no journal.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
    return -1
end
if state ~= ARGV[2] then
    if not string.find(' ' .. ARGV[1] .. ' ', ' ' .. state .. ' ', 1, true) then
        return 0
    end
    redis.call('HSET', KEYS[1], 'state', ARGV[2], unpack(ARGV, 3))
end
return 1
