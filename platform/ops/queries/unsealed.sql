-- Entries of the audit log that wait to be sealed.
SELECT count(*) AS waiting, round(extract(epoch FROM now() - min(queued_at))) AS oldest_seconds FROM audit_unsealed
