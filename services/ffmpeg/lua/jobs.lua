-- Every operation on a job, each as one atomic step; its functions are those of jobs_state.lua, which stands before it.

local ops = {}

-- -> {'created' | 'exists' | 'quota', {field, value, ...}}, the job as it is at this moment
function ops.register(id, kind, owner, class, spec, idem_key, retry_of, queued_max, share)
    -- The length keeps owner 'a:b' with key 'c' apart from owner 'a' with key 'b:c'.
    local idem = key('idem', #owner, owner, idem_key)
    if idem_key ~= '' then
        local first = redis.call('GET', idem)
        if first and redis.call('EXISTS', job_key(first)) == 1 then
            return { 'exists', redis.call('HGETALL', job_key(first)) }
        end
    end
    if redis.call('EXISTS', job_key(id)) == 1 then
        return { 'exists', redis.call('HGETALL', job_key(id)) }
    end
    local counts = redis.call('HMGET', key('owner', owner), 'queued', 'running')
    local queued, running = tonumber(counts[1] or 0), tonumber(counts[2] or 0)
    if queued >= tonumber(queued_max) then
        return { 'quota' }
    end
    -- Fair share: the queue's own time, which moves as jobs start, plus what the owner has unfinished. A flood
    -- by one owner lies in the future; another's first job comes next.
    local virtual = tonumber(redis.call('HGET', key('virtual'), kind .. ':' .. class) or 0)
    local tag = virtual + queued + running + 1
    if share then
        -- The system's jobs are done for somebody: each is a turn behind the last one for the same. No count, which a
        -- process of another release that ends such a job would leave wrong for good.
        local turns = key('turns', kind, class)
        tag = math.max(virtual, tonumber(redis.call('ZSCORE', turns, share) or 0)) + 1
        redis.call('ZADD', turns, tag, share)
    end
    local member = string.format('%016d:%s', redis.call('INCR', key('sequence')), id)
    redis.call('HSET', job_key(id), 'id', id, 'kind', kind, 'owner', owner, 'class', class, 'spec', spec,
        'state', 'pending', 'created', now, 'member', member, 'tag', tag,
        'score', string.format('%.0f', class * 2 ^ 44 + tag), 'retry_of', retry_of)
    if idem_key ~= '' then
        redis.call('HSET', job_key(id), 'idem', idem)
        redis.call('SET', idem, id)
    end
    count(owner, 'queued', 1)
    redis.call('ZADD', key('unfinished', kind), now, id)
    redis.call('ZADD', key('jobs', owner), now, id)
    enqueue(id)
    return { 'created', redis.call('HGETALL', job_key(id)) }
end

local function promote()
    local due = redis.call('ZRANGEBYSCORE', key('delayed'), '-inf', now, 'LIMIT', 0, 100)
    for _, member in ipairs(due) do
        enqueue(id_of(member))
        redis.call('ZREM', key('delayed'), member)
        redis.call('HDEL', job_key(id_of(member)), 'due')
    end
end

local function start(id, worker, nonce, lease_ms)
    local kind, owner, class, tag = unpack(get(id, 'kind', 'owner', 'class', 'tag'))
    state_to(id, 'pending', 'running')
    count(owner, 'queued', -1)
    count(owner, 'running', 1)
    -- A counter that time moves on: a Redis that came back without its last second gives no token twice.
    local token = math.max(tonumber(redis.call('GET', key('token')) or 0) + 1, clock[1] * 1000000 + clock[2])
    redis.call('SET', key('token'), string.format('%.0f', token))
    redis.call('HINCRBY', job_key(id), 'attempt', 1)
    redis.call('HSET', job_key(id), 'token', token, 'worker', worker, 'started', now)
    redis.call('ZADD', key('active'), now + lease_ms, id)
    local slot = kind .. ':' .. class
    if tonumber(tag) > tonumber(redis.call('HGET', key('virtual'), slot) or 0) then
        redis.call('HSET', key('virtual'), slot, tag)
    end
    redis.call('ZREMRANGEBYSCORE', key('turns', kind, class), '-inf', tag)
    redis.call('HSET', key('worker', worker), 'nonce', nonce, 'job', id, 'token', token)
    redis.call('PEXPIRE', key('worker', worker), lease_ms * 2)
    changed(id)
    return { token, redis.call('HGETALL', job_key(id)) }
end

-- Redis answers nobody else while a claim looks at so many.
local LOOKED_AT_ONCE = 100

-- The next job among the kinds given, in their order -> {token, {field, value, ...}}, false, or 'more': there may be
-- one behind those that were looked at. The nonce makes a repeated call, whose first answer was lost on the way, give
-- the same job again. The system's own jobs know no RUNNING_MAX: one by one, those that take hours would hold up what
-- people wait for.
function ops.claim(worker, nonce, lease_ms, ...)
    lease_ms = tonumber(lease_ms)
    local last = redis.call('HMGET', key('worker', worker), 'nonce', 'job', 'token')
    -- The worker counts its lease from this call, so it is good from this one.
    if last[1] == nonce and ops.renew_one(lease_ms, last[2], last[3]) ~= 'lost' then
        return { tonumber(last[3]), redis.call('HGETALL', job_key(last[2])) }
    end
    promote()
    local looked = 0
    for _, kind in ipairs({ ... }) do
        while true do
            local member, score = unpack(redis.call('ZRANGE', key('ready', kind), 0, 0, 'WITHSCORES'))
            if not member then
                break
            elseif looked == LOOKED_AT_ONCE then
                return 'more'
            end
            looked = looked + 1
            local id, started = id_of(member), nil
            local state, owner = unpack(get(id, 'state', 'owner'))
            if state == 'pending' then
                if RUNNING_MAX > 0 and running_of(owner) >= RUNNING_MAX and owner ~= SYSTEM then
                    redis.call('ZADD', key('parked', owner), score, member)
                else
                    started = start(id, worker, nonce, lease_ms)
                end
            end
            redis.call('ZREM', key('ready', kind), member)
            if started then
                return started
            end
        end
    end
    return false
end

function ops.renew_one(lease_ms, id, token)
    local answer = holding(id, token)
    if answer ~= 'lost' then
        redis.call('ZADD', key('active'), now + lease_ms, id)
    end
    return answer
end

-- Pairs of id and token -> 'held' | 'cancel' | 'lost' for each; the first two are good for lease_ms from now.
function ops.renew(worker, lease_ms, ...)
    local pairs_given, answers = { ... }, {}
    redis.call('ZADD', key('workers'), now + lease_ms, worker)
    for i = 1, #pairs_given, 2 do
        answers[#answers + 1] = ops.renew_one(lease_ms, pairs_given[i], pairs_given[i + 1])
    end
    return answers
end

function ops.leave(worker)
    redis.call('ZREM', key('workers'), worker)
    redis.call('DEL', key('worker', worker))
end

function ops.progress(id, token, progress)
    local answer = holding(id, token)
    if answer ~= 'lost' then
        redis.call('HSET', job_key(id), 'progress', progress)
        changed(id)
    end
    return answer
end

-- An output's multipart upload is known before its first part, so that a later attempt can abort it: after
-- that, S3 itself refuses to complete what a stale attempt began.
function ops.begin_upload(id, token, upload_id, object_key)
    local answer = holding(id, token)
    if answer == 'held' then
        redis.call('HSET', key('uploads', id), upload_id, object_key)
    end
    return answer
end

function ops.complete(id, token, result, keep_ms)
    local answer = holding(id, token)
    if answer == 'held' then
        redis.call('HSET', job_key(id), 'result', result)
        finish(id, 'running', 'completed', tonumber(keep_ms))
    elseif answer == 'lost' then
        -- The same call again, its first answer lost on the way.
        local state, current = unpack(get(id, 'state', 'token'))
        if state == 'completed' and current == token then
            return 'held'
        end
    end
    return answer
end

-- The end of an outage is found within so many milliseconds.
local LONGEST_OUTAGE_PAUSE = 300000

-- Milliseconds from the end of the try with this number to the next one; the pause before the last try is the longest.
local function pause(tries, backoff_ms)
    return backoff_ms * 2 ^ (tries - 1)
end

-- The attempt ended in a fault; tries_max 0: for good; outage_ms not 0: in an outage, which is no try until so long
-- after the job's first one. A cancel that was asked for wins.
function ops.fail(id, token, reason, message, tries_max, backoff_ms, keep_ms, outage_ms)
    local answer = holding(id, token)
    if answer == 'lost' then
        return answer
    elseif answer == 'cancel' then
        finish(id, 'running', 'cancelled', tonumber(keep_ms))
        return 'cancelled'
    end
    if tonumber(outage_ms) > 0 then
        -- Where the clock was set back, it begins now.
        local since = math.min(now, tonumber(redis.call('HGET', job_key(id), 'outage') or now))
        redis.call('HSET', job_key(id), 'outage', since)
        if now - since < tonumber(outage_ms) then
            -- As long as it has lasted: the time between two tries doubles.
            requeue(id, now + math.max(backoff_ms, math.min(now - since, LONGEST_OUTAGE_PAUSE)))
            return 'outage'
        end
    end
    local tries = redis.call('HINCRBY', job_key(id), 'tries', 1)
    if tries < tonumber(tries_max) then
        requeue(id, now + pause(tries, backoff_ms))
        return 'retry'
    end
    fail(id, 'running', reason, message, tonumber(keep_ms))
    return 'failed'
end

-- A draining worker gives the job back; neither a try nor a lost worker.
function ops.release(id, token, keep_ms)
    local answer = holding(id, token)
    if answer == 'held' then
        requeue(id, 0)
    elseif answer == 'cancel' then
        finish(id, 'running', 'cancelled', tonumber(keep_ms))
    end
    return answer
end

-- -> 'missing' | 'finished' | 'cancelled' (nobody ran it) | 'cancelling' (its worker is told). The nonce makes a
-- repeated call, whose first answer was lost on the way, no call upon a finished job.
function ops.cancel(id, nonce, keep_ms)
    local state, canceller = unpack(get(id, 'state', 'canceller'))
    if not state then
        return 'missing'
    elseif state == 'pending' then
        redis.call('HSET', job_key(id), 'canceller', nonce)
        unqueue(id)
        finish(id, 'pending', 'cancelled', tonumber(keep_ms))
        return 'cancelled'
    elseif state == 'running' then
        redis.call('HSET', job_key(id), 'canceller', nonce, 'cancel', '1')
        redis.call('PUBLISH', key('cancel'), id)
        changed(id)
        return 'cancelling'
    end
    return canceller == nonce and 'cancelled' or 'finished'
end
