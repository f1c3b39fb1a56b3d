-- Deletes the output of a live run that its instance has given up, unless a newer
-- attempt is stored, and wakes its followers, who then read the store.
-- KEYS[1] the value, and the channel. ARGV attempt, sender.
local held = redis.call('GETRANGE', KEYS[1], 0, 10)
if #held == 11 then
	if tonumber(string.sub(held, 1, 10)) > tonumber(ARGV[1]) then return 2 end
	if string.find('csfi', string.sub(held, 11, 11), 1, true) then return 2 end
	redis.call('DEL', KEYS[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1
