-- Counts requests in a rolling minute, in 61 buckets of a second, and admits
-- one if fewer than the limit count. A refused request does not count.
-- Each request has a ticket, and each ticket is counted at most once: a command
-- that is carried out late, or sent again, changes nothing.
-- KEYS[1] 4 bytes: the newest second; 2 bytes per bucket, second modulo 61; then
-- 5 bytes for each of the last 64 tickets: the ticket, '+' counted or '-' cancelled.
-- ARGV limit; for tests the time in milliseconds, or ''; the request's ticket of
-- 4 bytes, or '' to settle only; settlements of 8 bytes: ticket, age in seconds
-- (1 byte), '+' to count it or '-' to cancel it, how many requests it stands for
-- (2 bytes).
-- Returns {admitted, counted, milliseconds until one would be admitted, until none counts}.
local buckets, most, size, kept = 61, 65535, 126, 64
local limit, now, ticket, settlements = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
if not now then
	local t = redis.call('TIME')
	now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local second = math.floor(now / 1000)

local at, count, total, tickets, changed = second, {}, 0, '', false
local held = redis.call('GET', KEYS[1])
if held and #held >= size then
	local b = {string.byte(held, 1, size)}
	at = ((b[1] * 256 + b[2]) * 256 + b[3]) * 256 + b[4]
	for i = 0, buckets - 1 do count[i] = b[5 + 2 * i] * 256 + b[6 + 2 * i] end
	tickets = string.sub(held, size + 1)
else
	for i = 0, buckets - 1 do count[i] = 0 end
end
for s = at + 1, math.min(second, at + buckets) do count[s % buckets] = 0 end
at = math.max(at, second) -- a clock that goes back counts in the newest second
for i = 0, buckets - 1 do total = total + count[i] end

-- the position of a ticket among those that are kept, or nil
local function find(t)
	local from = 1
	while true do
		local p = string.find(tickets, t, from, true)
		if not p or (p - 1) % 5 == 0 then return p end
		from = p + 1
	end
end

local function keep(t, how)
	local p = find(t)
	if p then
		tickets = string.sub(tickets, 1, p + 3) .. how .. string.sub(tickets, p + 5)
	else
		tickets = string.sub(tickets .. t .. how, -5 * kept)
	end
	changed = true
end

local function add(s, n)
	n = math.min(n, most - count[s % buckets])
	count[s % buckets], total = count[s % buckets] + n, total + n
end

for p = 1, #settlements, 8 do
	local t, how = string.sub(settlements, p, p + 3), string.sub(settlements, p + 5, p + 5)
	local age, n = string.byte(settlements, p + 4), string.byte(settlements, p + 6) * 256 + string.byte(settlements, p + 7)
	local known = find(t)
	if how == '+' and not known then
		if age < buckets then add(at - age, n) end
		keep(t, '+')
	elseif how == '-' then
		if known and string.sub(tickets, known + 4, known + 4) == '+' then
			for s = at, at - buckets + 1, -1 do -- the newest second in which any counts
				if count[s % buckets] > 0 then
					add(s, -1)
					break
				end
			end
		end
		keep(t, '-')
	end
end

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
if ticket ~= '' and not find(ticket) then
	if total < limit and count[at % buckets] < most then
		admitted = 1
		add(at, 1)
		keep(ticket, '+')
	else
		wait = math.max(free(limit) * 1000 - now, 1)
	end
end
if changed then
	local out = {string.char(math.floor(at / 16777216) % 256, math.floor(at / 65536) % 256, math.floor(at / 256) % 256, at % 256)}
	for i = 0, buckets - 1 do out[i + 2] = string.char(math.floor(count[i] / 256), count[i] % 256) end
	out[buckets + 2] = tickets
	redis.call('SET', KEYS[1], table.concat(out), 'PX', buckets * 1000)
end
return {admitted, total, wait, math.max(free(1) * 1000 - now, 0)}
