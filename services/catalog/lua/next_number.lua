-- The next number, or 0 where there is no index to count in.
-- KEYS: marker, counter
if redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
return redis.call('INCR', KEYS[2])
