-- Counts one request in a rolling minute, in 61 buckets of a second, and admits
-- it if fewer than the limit count. A refused request does not count.
-- KEYS[1] 4 bytes: the newest second; then 2 bytes per bucket, second modulo 61.
-- ARGV limit, and for tests the time in milliseconds.
-- Returns {admitted, counted, milliseconds until one would be admitted, until none counts}.
local buckets, most, size = 61, 65535, 126
local limit, now = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
	local t = redis.call('TIME')
	now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local second = math.floor(now / 1000)

local at, count, total = second, {}, 0
local held = redis.call('GET', KEYS[1])
if held and #held == size then
	local b = {string.byte(held, 1, size)}
	at = ((b[1] * 256 + b[2]) * 256 + b[3]) * 256 + b[4]
	for i = 0, buckets - 1 do count[i] = b[5 + 2 * i] * 256 + b[6 + 2 * i] end
else
	for i = 0, buckets - 1 do count[i] = 0 end
end
for s = at + 1, math.min(second, at + buckets) do count[s % buckets] = 0 end
at = math.max(at, second) -- a clock that goes back counts in the newest second
for i = 0, buckets - 1 do total = total + count[i] end

-- the second in which fewer than n will count
local function free(n)
	local left = total
	for s = at + 1, at + buckets do
		left = left - count[s % buckets]
		if left < n then return s end
	end
	return at + buckets
end

local admitted, wait = 0, 0
if total < limit and count[at % buckets] < most then
	admitted, total = 1, total + 1
	count[at % buckets] = count[at % buckets] + 1
	local out = {string.char(math.floor(at / 16777216) % 256, math.floor(at / 65536) % 256, math.floor(at / 256) % 256, at % 256)}
	for i = 0, buckets - 1 do out[i + 2] = string.char(math.floor(count[i] / 256), count[i] % 256) end
	redis.call('SET', KEYS[1], table.concat(out), 'PX', buckets * 1000)
else
	wait = math.max(free(limit) * 1000 - now, 1)
end
return {admitted, total, wait, math.max(free(1) * 1000 - now, 0)}
