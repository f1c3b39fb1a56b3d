-- Users by what they have used today and this month (UTC), to be compared with their budgets.
SELECT user_id,
  coalesce(sum(tokens) FILTER (WHERE day = to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')), 0) AS tokens_today,
  round(coalesce(sum(cost_micros) FILTER (WHERE day = to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')), 0) / 1e6, 4) AS usd_today,
  sum(tokens) AS tokens_month, round(sum(cost_micros) / 1e6, 4) AS usd_month
FROM chat_usage WHERE day >= to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-01')
GROUP BY 1 ORDER BY 5 DESC, 4 DESC
LIMIT 50
