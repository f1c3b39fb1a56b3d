-- Stores a run's output for other instances, and wakes them. The value is a head
-- of 11 bytes (attempt, state) and then the output; it only grows within an
-- attempt.
-- KEYS[1] the value, and the channel. ARGV attempt, state (one letter), whether
-- it is terminal, offset of the piece, piece, milliseconds to live, sender.
-- Returns 1: stored; 0: the offset does not match, send all; 2: it is out of date.
local key, attempt, from, piece = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[4]), ARGV[5]
local size, terminal = 11, ARGV[3] == '1'
local held, length = redis.call('GETRANGE', key, 0, size - 1), 0
if #held == size then
	local known = tonumber(string.sub(held, 1, 10))
	if known > attempt then return 2 end
	if known == attempt then
		if string.find('csfi', string.sub(held, 11, 11), 1, true) then return 2 end
		length = redis.call('STRLEN', key) - size
		if from + #piece < length and not terminal then return 2 end
	elseif from > 0 then
		return 0
	end
end
local head = string.format('%010d%s', attempt, ARGV[2])
if from == 0 then
	redis.call('SET', key, head .. piece)
elseif from == length and #held == size then
	redis.call('APPEND', key, piece)
	redis.call('SETRANGE', key, 0, head)
else
	return 0
end
redis.call('PEXPIRE', key, ARGV[6])
redis.call('PUBLISH', key, ARGV[7])
return 1
