-- Give out an index that was loaded: its counter, and the marker. Not where a part of it was lost since it was loaded,
-- as by a server that came back or took over.
-- KEYS: marker, counter, numbers    ARGV: the last number, how many there are
-- Returns 1 if it is served now, 0 if not.
if redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[2]) then
    return 0
end
redis.call('MSET', KEYS[2], ARGV[1], KEYS[1], '1')
return 1
