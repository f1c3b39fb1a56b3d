-- Everything that the migrations make of a schema of PostgreSQL, one object a row:
-- its kind, its table or function, its name and its definition, without the name of
-- the schema. $1 is the name of the schema. A table that is divided by a hash of
-- user_id is described as one that is not. Its partitions, in whatever schema, are
-- tables too, whose objects have the names of the table's.
WITH undivided AS (
  SELECT c.oid, c.relname::text AS name, c.relkind, c.relpersistence, c.relowner, c.relacl, quote_ident($1) || '.' || quote_ident(c.relname) AS spelled
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname ~ '^(chat|audit)_' AND NOT c.relispartition
), tables AS (
  SELECT oid, name, relkind, relpersistence, relowner, relacl, spelled, name AS of_table, NULL::text AS bounds FROM undivided
  UNION ALL
  SELECT c.oid, p.spelled, c.relkind, c.relpersistence, c.relowner, c.relacl, p.spelled, u.name, pg_get_expr(c.relpartbound, c.oid)
  FROM undivided AS u JOIN pg_inherits AS i ON i.inhparent = u.oid JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
    LATERAL (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)) AS p (spelled)
), functions AS (
  SELECT p.oid, p.proname::text AS name, p.proowner, p.proacl, p.prosecdef, p.provolatile, p.proisstrict, p.prosrc, p.prolang, p.proconfig,
    pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
  WHERE n.nspname = $1 AND p.proname ~ '^(chat|audit)_'
), owner AS (
  SELECT relowner AS oid FROM tables WHERE name = 'chat_users'
)
SELECT 'table' AS kind, name AS parent, name,
  CASE relkind WHEN 'r' THEN 'table' WHEN 'f' THEN 'foreign table' WHEN 'p' THEN
    CASE WHEN bounds IS NULL AND pg_get_partkeydef(oid) = 'HASH (user_id)' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = tables.oid)
      THEN 'table' ELSE 'partitioned table' END
  ELSE 'view' END
  || CASE relpersistence WHEN 'u' THEN ', not logged' WHEN 't' THEN ', temporary' ELSE '' END AS definition
FROM tables
UNION ALL
SELECT 'partition', of_table, coalesce(substring(bounds FROM 'remainder (\d+)') || ' of ' || substring(bounds FROM 'modulus (\d+)'), bounds), name
FROM tables WHERE bounds IS NOT NULL
UNION ALL
SELECT 'column', t.name, a.attname::text, format_type(a.atttypid, a.atttypmod)
  || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
  || CASE a.attidentity WHEN '' THEN '' ELSE ' IDENTITY ' || a.attidentity::text END
  || CASE a.attgenerated WHEN '' THEN '' ELSE ' GENERATED' END
  || CASE WHEN a.attcollation <> 0 AND a.attcollation <> (SELECT typcollation FROM pg_type WHERE oid = a.atttypid)
     THEN ' COLLATE ' || (SELECT collname FROM pg_collation WHERE oid = a.attcollation) ELSE '' END
  || coalesce(' DEFAULT ' || (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum), '')
FROM tables AS t JOIN pg_attribute AS a ON a.attrelid = t.oid
WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'index', t.name, coalesce(p.relname, c.relname)::text,
  replace(replace(replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON '), ' ON ' || t.spelled || ' ', ' ON ' || t.name || ' '),
    ' INDEX ' || quote_ident(c.relname) || ' ON ', ' INDEX ' || quote_ident(coalesce(p.relname, c.relname)) || ' ON ')
  || CASE WHEN i.indisvalid AND i.indisready AND i.indislive THEN '' ELSE ' INVALID' END
FROM tables AS t JOIN pg_index AS i ON i.indrelid = t.oid JOIN pg_class AS c ON c.oid = i.indexrelid
  LEFT JOIN pg_inherits AS h ON h.inhrelid = i.indexrelid LEFT JOIN pg_class AS p ON p.oid = h.inhparent
UNION ALL
SELECT 'constraint', t.name, coalesce(p.conname, k.conname)::text, replace(pg_get_constraintdef(k.oid), ' REFERENCES ' || quote_ident($1) || '.', ' REFERENCES ')
  || CASE WHEN EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgconstraint = k.oid AND g.tgisinternal AND g.tgenabled <> 'O') THEN ' DISABLED' ELSE '' END
FROM tables AS t JOIN pg_constraint AS k ON k.conrelid = t.oid LEFT JOIN pg_constraint AS p ON p.oid = k.conparentid
WHERE k.contype IN ('p', 'u', 'f', 'c', 'x')
  AND (k.contype <> 'f' OR t.bounds IS NOT NULL OR k.conparentid = 0) -- a reference to a divided table has one to each of its partitions
UNION ALL
SELECT 'trigger', t.name, g.tgname::text, replace(replace(pg_get_triggerdef(g.oid), ' ON ' || t.spelled || ' ', ' ON ' || t.name || ' '), ' FUNCTION ' || quote_ident($1) || '.', ' FUNCTION ')
  || CASE g.tgenabled WHEN 'O' THEN '' WHEN 'D' THEN ' DISABLED' ELSE ' ENABLED ' || g.tgenabled::text END
FROM tables AS t JOIN pg_trigger AS g ON g.tgrelid = t.oid
WHERE NOT g.tgisinternal
UNION ALL
SELECT 'rule', t.name, r.rulename::text, pg_get_ruledef(r.oid)
FROM tables AS t JOIN pg_rewrite AS r ON r.ev_class = t.oid
WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'policy', t.name, p.polname::text, CASE WHEN p.polpermissive THEN '' ELSE 'RESTRICTIVE ' END || 'FOR ' || p.polcmd::text
  || CASE WHEN p.polroles = '{0}' THEN '' ELSE ' TO some roles' END
  || coalesce(' USING ' || pg_get_expr(p.polqual, p.polrelid), '') || coalesce(' WITH CHECK ' || pg_get_expr(p.polwithcheck, p.polrelid), '')
FROM tables AS t JOIN pg_policy AS p ON p.polrelid = t.oid
UNION ALL
SELECT 'function', f.name || '(' || f.arguments || ')', f.name || '(' || f.arguments || ')', 'RETURNS ' || f.result
  || ' LANGUAGE ' || (SELECT lanname FROM pg_language WHERE oid = f.prolang) || ' ' || f.provolatile::text
  || CASE WHEN f.proisstrict THEN ' STRICT' ELSE '' END
  || CASE WHEN f.prosecdef THEN ' SECURITY DEFINER' ELSE '' END
  || coalesce(' SET ' || (SELECT string_agg(CASE WHEN s LIKE 'search_path=%' AND position($1 IN s) > 0 THEN 'search_path' ELSE s END, ', ' ORDER BY s) FROM unnest(f.proconfig) AS s), '')
  || ' AS ' || md5(f.prosrc)
FROM functions AS f
UNION ALL
SELECT 'owner', t.name, t.name, CASE WHEN t.relowner = o.oid THEN 'that of chat_users' ELSE 'another role' END
FROM tables AS t, owner AS o
UNION ALL
SELECT 'owner', f.name || '(' || f.arguments || ')', f.name || '(' || f.arguments || ')', CASE WHEN f.proowner = o.oid THEN 'that of chat_users' ELSE 'another role' END
FROM functions AS f, owner AS o
UNION ALL
SELECT 'grant', t.name, t.name, 'PUBLIC ' || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
FROM tables AS t, LATERAL aclexplode(t.relacl) AS a
WHERE a.grantee = 0
GROUP BY t.name
UNION ALL
SELECT 'grant', f.name || '(' || f.arguments || ')', f.name || '(' || f.arguments || ')', 'PUBLIC EXECUTE'
FROM functions AS f
WHERE f.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(f.proacl) AS a WHERE a.grantee = 0)
ORDER BY 1, 2, 3
