-- Reads the part of a run's output that an instance does not have yet.
-- KEYS[1] the value. ARGV attempt and length that it has; the attempt that it makes
-- itself, or 0.
-- Returns {} when nothing newer than that is stored, or {head, offset of the piece, piece}.
local held = redis.call('GETRANGE', KEYS[1], 0, 10)
if #held < 11 or tonumber(string.sub(held, 1, 10)) <= tonumber(ARGV[3]) then return {} end
local from = tonumber(ARGV[2])
if tonumber(string.sub(held, 1, 10)) ~= tonumber(ARGV[1]) or redis.call('STRLEN', KEYS[1]) - 11 < from then from = 0 end
return {held, from, redis.call('GETRANGE', KEYS[1], 11 + from, -1)}
