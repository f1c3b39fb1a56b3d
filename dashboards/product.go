package dashboards

// Queries of the Postgres panels name no text of messages; the role of
// deploy/postgres/reader.sql could not read it.

func product() Dashboard {
	d := base("parley-product", "Chat product",
		"Use of the chat: messages, conversations, users, replies. From PostgreSQL and Prometheus.",
		providerVar, modelVar, postgresVar)
	d.Time.From = "now-7d"
	return board(d,
		row{"Use", 4, []Panel{
			stat("Active conversations", "Conversations with a message in the selected time range.", "short", 6, sql(`
SELECT COUNT(DISTINCT (user_id, conversation_id)) AS conversations
FROM chat_messages
WHERE conversation_id IS NOT NULL AND $__timeFilter(created_at)`)),
			stat("Active users", "Users with a message in the selected time range.", "short", 6, sql(`
SELECT COUNT(DISTINCT user_id) AS users
FROM chat_messages
WHERE $__timeFilter(created_at)`)),
			stat("All conversations", "All conversations with messages, their users, and messages per conversation.", "short", 6, sql(`
SELECT COUNT(*) AS conversations, COUNT(DISTINCT user_id) AS users, ROUND(AVG(message_count), 1) AS messages_each
FROM (
  SELECT conversation_id, user_id, COUNT(*) AS message_count
  FROM chat_messages
  WHERE conversation_id IS NOT NULL
  GROUP BY conversation_id, user_id
) AS conv_stats`)),
			stat("New users", "Users whose first message is in the selected time range.", "short", 6, sql(`
SELECT COUNT(*) AS users
FROM chat_users
WHERE $__timeFilter(created_at)`)),
		}},
		row{"Messages", 8, []Panel{
			lines("Messages per day", "Messages and users, per day.", of("per day"), 12, sql(`
SELECT DATE_TRUNC('day', created_at) AS time, COUNT(*) AS messages, COUNT(DISTINCT user_id) AS users
FROM chat_messages
WHERE $__timeFilter(created_at)
GROUP BY 1
ORDER BY 1`)).bars(),
			lines("Messages per hour", "Messages and users, per hour.", of("per hour"), 12, sql(`
SELECT DATE_TRUNC('hour', created_at) AS time, COUNT(*) AS messages, COUNT(DISTINCT user_id) AS users
FROM chat_messages
WHERE $__timeFilter(created_at)
GROUP BY 1
ORDER BY 1`)).bars(),
		}},
		row{"Answers", 8, []Panel{
			lines("Response time from the audit log", "From a message to the end of its reply, mean per hour.", "s", 8, sql(`
SELECT DATE_TRUNC('hour', created_at) AS time, AVG(EXTRACT(EPOCH FROM (updated_at - created_at))) AS seconds
FROM audit_logs
WHERE action = 'chat.message_sent' AND status = 'success' AND $__timeFilter(created_at)
GROUP BY 1
ORDER BY 1`)).bars(),
			lines("Response time", "From a message to the committed end of its reply, and to its first event: 95th percentiles. Dots link to traces.", "s", 8,
				traced(`histogram_quantile(0.95, sum by (le) (rate(chat_turn_duration_seconds_bucket{AT, MODEL}[RATE])))`, "complete reply"),
				traced(`histogram_quantile(0.95, sum by (le) (rate(chat_turn_time_to_first_event_seconds_bucket{AT, MODEL}[RATE])))`, "first output")),
			lines("Replies by final state", "Replies per hour by final state.", of("per hour"), 8, sql(`
SELECT DATE_TRUNC('hour', ended_at) AS time,
  COUNT(*) FILTER (WHERE state = 'completed') AS completed,
  COUNT(*) FILTER (WHERE state = 'stopped') AS stopped,
  COUNT(*) FILTER (WHERE state = 'interrupted') AS interrupted,
  COUNT(*) FILTER (WHERE state = 'failed') AS failed
FROM chat_runs
WHERE $__timeFilter(ended_at)
GROUP BY 1
ORDER BY 1`)).bars().stacked().colours("completed", "green", "stopped", "blue", "interrupted", "orange", "failed", "red"),
			table("Models", "Replies in the selected time range by model, with tokens and dollars.", "short", 12, sql(`
SELECT provider, model, COUNT(*) AS replies, SUM(usage_input) AS input_tokens, SUM(usage_output) AS output_tokens,
  ROUND(SUM(cost_micros) / 1e6, 4) AS usd
FROM chat_runs
WHERE provider IS NOT NULL AND $__timeFilter(ended_at)
GROUP BY provider, model
ORDER BY replies DESC`)).unitOf("usd", "currencyUSD"),
			table("Failed replies by cause", "Failed replies in the selected time range by cause.", "short", 12, sql(`
SELECT COALESCE(failure, 'unknown') AS failure, provider, COUNT(*) AS replies, MAX(ended_at) AS last
FROM chat_runs
WHERE state = 'failed' AND $__timeFilter(ended_at)
GROUP BY 1, 2
ORDER BY replies DESC`)).unitOf("last", "dateTimeAsIso"),
		}},
		row{"Feedback", 8, []Panel{
			lines("Ratings", "Ratings of replies per hour, by model.", "short", 24,
				query(`sum by (provider, model, rating) (increase(chat_feedback_total{AT, MODEL}[1h]))`, "{{rating}} {{provider}} {{model}}")).bars().stacked(),
		}},
		row{"Errors and refusals", 8, []Panel{
			table("Error rate by action", "Audited actions in the selected time range and how many failed.", "short", 12, sql(`
SELECT action,
  COUNT(CASE WHEN status = 'failure' THEN 1 END) AS failures,
  COUNT(*) AS total,
  ROUND(100.0 * COUNT(CASE WHEN status = 'failure' THEN 1 END) / COUNT(*), 2) AS error_rate_percent
FROM audit_logs
WHERE action LIKE 'chat.%' AND $__timeFilter(created_at)
GROUP BY action
ORDER BY total DESC`)).unitOf("error_rate_percent", "percent"),
			lines("Refused requests", "Requests per second refused before a reply was started.", "reqps", 6,
				query(`sum by (kind) (rate(chat_refusals_total{AT}[RATE]))`, "{{kind}}")).stacked(),
			lines("Refusals in the audit log", "Audited refusals per hour; a limit is audited once per user and minute.", of("per hour"), 6, sql(`
SELECT DATE_TRUNC('hour', created_at) AS time,
  COUNT(*) FILTER (WHERE action = 'security.rate_limit_exceeded') AS rate_limit_exceeded,
  COUNT(*) FILTER (WHERE action = 'security.unauthorized_access') AS unauthorized_access
FROM audit_logs
WHERE action LIKE 'security.%' AND $__timeFilter(created_at)
GROUP BY 1
ORDER BY 1`)).bars().stacked(),
		}},
	)
}
