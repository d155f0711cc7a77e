-- Take the uploads that ran out from their processes.
-- KEYS: open, sweeping    ARGV: now
-- Returns all that is to be swept.
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, 1000)) do
    redis.call('ZREM', KEYS[1], member)
    redis.call('SADD', KEYS[2], member)
end
return redis.call('SMEMBERS', KEYS[2])
