-- Take the journal from one state to the next.
-- KEYS: journal
-- ARGV: states it may be in, separated by spaces; the new state; the size it must have ('': any); field, value, …
-- Returns 1 if it is in the new state now, 0 if it was in none of those or of another size, -1 without a journal.
local state, size = unpack(redis.call('HMGET', KEYS[1], 'state', 'size'))
if not state then
    return -1
end
if state ~= ARGV[2] then
    if not string.find(' ' .. ARGV[1] .. ' ', ' ' .. state .. ' ', 1, true) or (ARGV[3] ~= '' and ARGV[3] ~= size) then
        return 0
    end
    redis.call('HSET', KEYS[1], 'state', ARGV[2], unpack(ARGV, 4))
end
return 1
