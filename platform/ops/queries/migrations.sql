-- The newest migrations that were applied, and their errors.
SELECT version, description, applied || '/' || total AS statements, executed_at, coalesce(error, '') AS error
FROM atlas_schema_revisions.atlas_schema_revisions
WHERE version NOT LIKE '.%'
ORDER BY version DESC
LIMIT 10
