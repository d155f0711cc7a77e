-- A job's record, its places in the queue and its states: what the operations of jobs.lua and jobs_housekeeping.lua are
-- made of. redis_job_store.py puts before this file TRANSITIONS, from the table in job_state.py, SYSTEM, an owner,
-- KEPT_MAX and RUNNING_MAX; and behind it those two files and the call of the operation, all as one script.
--
-- Call: EVALSHA sha 1 '{ff}' OPERATION ARGUMENTS... Keys are listed in redis_job_store.py; all of them begin
-- with KEYS[1], a hash tag, so that they live in one slot of a Redis Cluster. Time is Redis' own, so workers'
-- clocks don't matter. Only commands of Redis 7.0 and older.
--
-- A full Redis refuses writes that add, but for those of a script that has taken something away before. What adds comes
-- first, so that an operation is refused as a whole: a job that began then could never write how it ended.

local PREFIX = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function key(...)
    return PREFIX .. ':' .. table.concat({ ... }, ':')
end

local function job_key(id)
    return key('job', id)
end

local function get(id, ...)
    return redis.call('HMGET', job_key(id), ...)
end

local function count(owner, field, change)
    local left = redis.call('HINCRBY', key('owner', owner), field, change)
    if left <= 0 then
        redis.call('HDEL', key('owner', owner), field)
    end
end

local function changed(id)
    redis.call('PUBLISH', key('changed'), id)
end

local function state_to(id, from, to)
    if not (TRANSITIONS[from] and TRANSITIONS[from][to]) then
        return error('illegal transition from ' .. tostring(from) .. ' to ' .. to)
    end
    redis.call('HSET', job_key(id), 'state', to)
end

-- Waiting jobs of a kind are ordered by class, then fair tag, then age (equal scores sort by member, which
-- begins with the number of the registration).
local function enqueue(id)
    local kind, score, member = unpack(get(id, 'kind', 'score', 'member'))
    redis.call('ZADD', key('ready', kind), score, member)
    redis.call('PUBLISH', key('wake'), kind)
end

local function id_of(member)
    return string.sub(member, 18)
end

local function unqueue(id)
    local kind, member, owner = unpack(get(id, 'kind', 'member', 'owner'))
    redis.call('ZREM', key('ready', kind), member)
    redis.call('ZREM', key('delayed'), member)
    redis.call('ZREM', key('parked', owner), member)
end

local function running_of(owner)
    return tonumber(redis.call('HGET', key('owner', owner), 'running') or 0)
end

-- A job of the owner has ended: one that its running quota held back may be claimed, or is parked again. More than one
-- where the quota was raised or taken away; not all of them at once.
local function unpark(owner)
    local free = RUNNING_MAX > 0 and RUNNING_MAX - running_of(owner) or 10
    local popped = redis.call('ZPOPMIN', key('parked', owner), math.max(1, math.min(free, 10)))
    for i = 1, #popped, 2 do
        enqueue(id_of(popped[i]))
    end
end

local function leave_running(id, owner)
    redis.call('ZREM', key('active'), id)
    redis.call('HDEL', job_key(id), 'progress')
    count(owner, 'running', -1)
end

-- Removes a finished job's record.
local function forget(id)
    local owner, idem = unpack(get(id, 'owner', 'idem'))
    redis.call('ZREM', key('finished'), id)
    if not owner then
        return
    end
    -- A process of an older release gave keys a time of their own: another job may have this one by now.
    if idem and redis.call('GET', idem) == id then
        redis.call('DEL', idem)
    end
    redis.call('ZREM', key('jobs', owner), id)
    redis.call('ZREM', key('finished', owner), id)
    redis.call('DEL', job_key(id))
end

-- Keeps a finished record for its time, and of its owner's KEPT_MAX: Redis is shared and evicts nothing, and whoever
-- registers and cancels for ever would fill it. By number, not by time, which may be set back: what has just ended is
-- the last to go. The system's records stay their time, since they are asked what became of a video, and when
-- (due_jobs.py, joined.py); each belongs to a video, or to a version of one, which takes as much itself.
local function keep(id, owner, keep_ms)
    redis.call('ZADD', key('finished'), now + keep_ms, id)
    if owner == SYSTEM then
        return
    end
    local kept = key('finished', owner)
    redis.call('ZADD', kept, redis.call('INCR', key('sequence')), id)
    local over = redis.call('ZCARD', kept) - KEPT_MAX
    if over > 0 then
        -- More than one where the bound was lowered; not all of them at once.
        local popped = redis.call('ZPOPMIN', kept, math.min(over, 10))
        for i = 1, #popped, 2 do
            forget(popped[i])
        end
    end
end

local function finish(id, from, to, keep_ms)
    local kind, owner = unpack(get(id, 'kind', 'owner'))
    state_to(id, from, to)
    if from == 'running' then
        leave_running(id, owner)
    else
        count(owner, 'queued', -1)
    end
    unpark(owner)
    redis.call('HSET', job_key(id), 'finished', now)
    redis.call('HDEL', job_key(id), 'due', 'cancel')
    redis.call('ZREM', key('unfinished', kind), id)
    keep(id, owner, keep_ms)
    if to == 'completed' then
        redis.call('DEL', key('uploads', id))
    elseif redis.call('EXISTS', key('uploads', id)) == 1 then
        -- Attempts began outputs that nobody shall see; the sweeper aborts and removes them.
        redis.call('ZADD', key('debris'), now, id)
    end
    changed(id)
end

local function fail(id, from, reason, message, keep_ms)
    redis.call('HSET', job_key(id), 'reason', reason, 'error', message)
    finish(id, from, 'failed', keep_ms)
end

-- Back to the queue; due_ms 0: at once.
local function requeue(id, due_ms)
    local owner, member = unpack(get(id, 'owner', 'member'))
    state_to(id, 'running', 'pending')
    leave_running(id, owner)
    unpark(owner)
    count(owner, 'queued', 1)
    if due_ms > 0 then
        redis.call('HSET', job_key(id), 'due', due_ms)
        redis.call('ZADD', key('delayed'), due_ms, member)
    else
        enqueue(id)
    end
    changed(id)
end

-- 'held' if this very attempt may still write, 'cancel' if it may, but shall stop; else 'lost'.
local function holding(id, token)
    local state, current, cancel = unpack(get(id, 'state', 'token', 'cancel'))
    if state ~= 'running' or current ~= token then
        return 'lost'
    end
    return cancel == '1' and 'cancel' or 'held'
end
