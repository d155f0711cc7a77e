-- Enter an upload into the registers of open ones, unless its owner has too many.
-- KEYS: open, those of this owner    ARGV: video id, owner, now, most
-- Returns 1 if it is entered, 0 if there are too many.
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[4]) and redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then
    return 0
end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1] .. ' ' .. ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
