-- Indexes that the migrations create and the database lacks or cannot use.
SELECT expected.name AS missing_index, CASE WHEN found.indexrelid IS NULL THEN 'missing' ELSE 'invalid' END AS problem
FROM unnest($1::text[]) AS expected (name)
LEFT JOIN pg_class c ON c.relname = expected.name AND c.relkind IN ('i', 'I')
LEFT JOIN pg_index found ON found.indexrelid = c.oid
WHERE found.indexrelid IS NULL OR NOT found.indisvalid
ORDER BY 1
