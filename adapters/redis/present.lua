-- Registers an instance as present and counts those that are.
-- KEYS[1] a sorted set, instance by time. ARGV instance, milliseconds until one is forgotten.
-- Returns {how many are present, 1 if this one was not registered before}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local added = redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {redis.call('ZCARD', KEYS[1]), added}
