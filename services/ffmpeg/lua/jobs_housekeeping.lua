-- What housekeeping does with jobs, and the queue's counts; its functions and `ops` are those of jobs_state.lua and
-- jobs.lua, which stand before it.

-- Redis' clock may be set back, or a machine with another clock take over: times that were written before lie ahead by
-- as much then, and a dead worker's job would hang for so long. Without that nothing is later than `furthest`, so that
-- no lease is cut short that still stands. -> the members that were moved to it, at most 100 a call.
local function bring_back(list, furthest)
    local ahead = redis.call('ZRANGEBYSCORE', list, string.format('(%.0f', furthest), '+inf', 'LIMIT', 0, 100)
    for _, member in ipairs(ahead) do
        redis.call('ZADD', list, string.format('%.0f', furthest), member)
    end
    return ahead
end

-- Jobs whose worker let the lease run out -> {id, 'requeued' | 'poison' | 'cancelled', ...}
function ops.reap(lost_max, reason, message, keep_ms, lease_ms, tries_max, backoff_ms)
    local told = {}
    bring_back(key('active'), now + lease_ms)
    bring_back(key('workers'), now + lease_ms)
    local last_try = now + math.max(LONGEST_OUTAGE_PAUSE, pause(math.max(1, tries_max - 1), backoff_ms))
    for _, member in ipairs(bring_back(key('delayed'), last_try)) do
        redis.call('HSET', job_key(id_of(member)), 'due', string.format('%.0f', last_try))
    end
    promote()
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('active'), '-inf', now, 'LIMIT', 0, 100)) do
        local state, cancel = unpack(get(id, 'state', 'cancel'))
        local what
        if state ~= 'running' then
            redis.call('ZREM', key('active'), id)
        elseif cancel == '1' then
            finish(id, 'running', 'cancelled', tonumber(keep_ms))
            what = 'cancelled'
        elseif redis.call('HINCRBY', job_key(id), 'lost', 1) >= tonumber(lost_max) then
            fail(id, 'running', reason, message, tonumber(keep_ms))
            what = 'poison'
        else
            requeue(id, 0)
            what = 'requeued'
        end
        if what then
            told[#told + 1] = id
            told[#told + 1] = what
        end
    end
    redis.call('ZREMRANGEBYSCORE', key('workers'), '-inf', now)
    return told
end

-- Records that were kept long enough, a few a call -> how many went.
function ops.forget_due()
    local due = redis.call('ZRANGEBYSCORE', key('finished'), '-inf', now, 'LIMIT', 0, 100)
    for _, id in ipairs(due) do
        forget(id)
    end
    return #due
end

-- For each kind: ready, unfinished, milliseconds that the oldest unfinished has waited; then delayed, active,
-- workers.
function ops.stats(...)
    local out = {}
    for _, kind in ipairs({ ... }) do
        local oldest = redis.call('ZRANGE', key('unfinished', kind), 0, 0, 'WITHSCORES')
        out[#out + 1] = redis.call('ZCARD', key('ready', kind))
        out[#out + 1] = redis.call('ZCARD', key('unfinished', kind))
        out[#out + 1] = oldest[2] and math.max(0, now - tonumber(oldest[2])) or 0
    end
    out[#out + 1] = redis.call('ZCARD', key('delayed'))
    out[#out + 1] = redis.call('ZCARD', key('active'))
    out[#out + 1] = redis.call('ZCOUNT', key('workers'), now, '+inf')
    return out
end
