-- Divides chat_messages, chat_runs and audit_logs into hash partitions by user_id
-- while Parley serves (docs/scaling.md, docs/adr/0072). Run as the owner of the
-- tables, not through a pooler; PostgreSQL 15 or newer:
--
--   psql "$OWNER_URL" -v partitions=16 -f deploy/scale/partition.sql
--
-- It makes partitioned tables beside the present ones, has triggers carry over
-- every change, copies the rows in small batches, compares the two, and exchanges
-- them in one short transaction. Run again after an interruption, it continues.
--
--   -v partitions=16  how many partitions each table gets; 0: ordinary tables again
--   -v stop=verified  ends before the exchange; a later run without it continues
--   -v abandon=1      removes what was made, before the exchange
--   -v batch=1000     rows of a transaction of the copy
--   -v pause=0        seconds between two of them
--   -v schema=...     of Parley's tables, if the search path does not lead to them
\set ON_ERROR_STOP on
\set QUIET on
\pset format unaligned
\pset tuples_only on
\if :{?partitions}
\else
  \set partitions 16
\endif
\if :{?batch}
\else
  \set batch 1000
\endif
\if :{?pause}
\else
  \set pause 0
\endif
\if :{?stop}
\else
  \set stop ''
\endif
\if :{?abandon}
\else
  \set abandon 0
\endif
\if :{?schema}
\else
SELECT coalesce((SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relname = 'chat_messages' AND pg_table_is_visible(c.oid)), 'public') AS schema \gset
\endif

SET application_name = 'parley partition';
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_connection_check_interval = '1s'; -- when psql is killed, this ends, too
SET parley.scope = 'all';
-- Definitions are read with the names of all schemas.
SET search_path = pg_catalog;

SELECT set_config('parley.move_source', :'schema', false), set_config('parley.move_partitions', :'partitions', false) \g /dev/null

DO $$
BEGIN
  IF current_setting('server_version_num')::int < 150000 THEN
    RAISE EXCEPTION 'this needs PostgreSQL 15 or newer: before, triggers of partitions cannot wait, disabled, for the exchange';
  END IF;
  IF current_setting('parley.move_partitions') !~ '^[0-9]+$' OR current_setting('parley.move_partitions')::int NOT BETWEEN 0 AND 128
      OR current_setting('parley.move_partitions')::int = 1 THEN
    RAISE EXCEPTION 'partitions must be 0, or from 2 to 128';
  END IF;
  IF to_regclass(format('%I.chat_messages', current_setting('parley.move_source'))) IS NULL THEN
    RAISE EXCEPTION 'schema % has no chat_messages: name Parley''s schema with -v schema=...', current_setting('parley.move_source');
  END IF;
END $$;

-- The tables stay with their owner, and the partitions too.
SET client_min_messages = warning;
SELECT format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I; CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I; SET ROLE %2$I',
    :'schema' || '_move', pg_get_userbyid(relowner), :'schema' || '_partitions', pg_get_userbyid(relowner))
  FROM pg_class WHERE oid = to_regclass(format('%I.chat_messages', :'schema'))
\gexec
SET client_min_messages = notice;

-- The tables that are divided: those that grow with every turn.
CREATE FUNCTION pg_temp.tables() RETURNS text[] LANGUAGE sql AS $$ SELECT ARRAY['chat_messages', 'chat_runs', 'audit_logs'] $$;

-- Names: the table in use, the one that is made beside it, and where the former is
-- until it is dropped.
CREATE FUNCTION pg_temp.used(t text) RETURNS text LANGUAGE sql AS $$ SELECT format('%I.%I', current_setting('parley.move_source'), t) $$;
CREATE FUNCTION pg_temp.made(t text) RETURNS text LANGUAGE sql AS $$ SELECT format('%I.%I', current_setting('parley.move_source') || '_partitions', t) $$;
CREATE FUNCTION pg_temp.aside(t text) RETURNS text LANGUAGE sql AS $$ SELECT format('%I.%I', current_setting('parley.move_source') || '_move', t) $$;

-- How many partitions a table has, 0 for an ordinary one.
CREATE FUNCTION pg_temp.partitions_of(t regclass) RETURNS bigint LANGUAGE sql AS $$
  SELECT count(*) FROM pg_inherits WHERE inhparent = t
$$;

-- A table with its partitions, as far as they hold rows.
CREATE FUNCTION pg_temp.storage(t text) RETURNS SETOF regclass LANGUAGE sql AS $$
  SELECT relid FROM pg_partition_tree(t::regclass) WHERE isleaf UNION SELECT oid FROM pg_class WHERE oid = t::regclass AND relkind = 'r'
$$;

-- The storage options of a table, or of its partitions.
CREATE FUNCTION pg_temp.options(t text) RETURNS text[] LANGUAGE sql AS $$
  SELECT reloptions FROM pg_class WHERE oid IN (SELECT pg_temp.storage(t)) LIMIT 1
$$;

CREATE FUNCTION pg_temp.columns(t regclass, prefix text) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(prefix || quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
  WHERE attrelid = t AND attnum > 0 AND NOT attisdropped
$$;

-- A definition of something of one table, as one of another.
CREATE FUNCTION pg_temp.on_table(definition text, of_table text, to_table text) RETURNS text LANGUAGE sql AS $$
  SELECT replace(replace(definition, ' ON ONLY ' || of_table || ' ', ' ON ' || of_table || ' '), ' ON ' || of_table || ' ', ' ON ' || to_table || ' ')
$$;

-- What belongs to a table, as statements that make it for another, in an order in
-- which they can be executed; references last, which lock the tables that they name.
CREATE FUNCTION pg_temp.parts(t text, to_table text, OUT kind text, OUT name text, OUT definition text) RETURNS SETOF record LANGUAGE sql AS $$
  SELECT * FROM (
    SELECT '1 key' AS kind, k.conname::text AS name, format('ALTER TABLE %s ADD CONSTRAINT %I %s', to_table, k.conname, pg_get_constraintdef(k.oid)) AS definition
    FROM pg_constraint AS k WHERE k.conrelid = t::regclass AND k.contype IN ('p', 'u', 'x')
    UNION ALL
    SELECT '2 index', c.relname::text, pg_temp.on_table(pg_get_indexdef(i.indexrelid), t, to_table)
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid = t::regclass AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT '6 reference', k.conname::text, format('ALTER TABLE %s ADD CONSTRAINT %I %s', to_table, k.conname, pg_get_constraintdef(k.oid))
    FROM pg_constraint AS k WHERE k.conrelid = t::regclass AND k.contype = 'f' AND k.conparentid = 0
    UNION ALL
    SELECT CASE WHEN g.tgtype & 1 = 1 THEN '3 row trigger' ELSE '4 statement trigger' END, g.tgname::text, pg_temp.on_table(pg_get_triggerdef(g.oid), t, to_table)
    FROM pg_trigger AS g WHERE g.tgrelid = t::regclass AND NOT g.tgisinternal AND g.tgname NOT LIKE 'parley\_move%'
    UNION ALL
    SELECT '5 policy', p.polname::text, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, to_table,
        CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
        (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(p.polroles) AS r))
      || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '') || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
    FROM pg_policy AS p WHERE p.polrelid = t::regclass
  ) AS list ORDER BY kind, name
$$;

-- All of a table's definition, to see whether it has changed.
CREATE FUNCTION pg_temp.fingerprint(t text) RETURNS text LANGUAGE sql AS $$
  SELECT md5((SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum)
      FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE a.attrelid = t::regclass AND a.attnum > 0 AND NOT a.attisdropped)
    || coalesce((SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY k.conname) FROM pg_constraint AS k WHERE k.conrelid = t::regclass AND k.contype = 'c'), '')
    || (SELECT string_agg(p.name || p.definition, ', ' ORDER BY p.kind, p.name) FROM pg_temp.parts(t, 'x') AS p))
$$;

-- References of other tables to one.
CREATE FUNCTION pg_temp.references_to(t text, OUT from_table text, OUT name text, OUT definition text) RETURNS SETOF record LANGUAGE sql AS $$
  SELECT format('%I.%I', n.nspname, c.relname), k.conname::text, pg_get_constraintdef(k.oid)
  FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE k.contype = 'f' AND k.confrelid = t::regclass AND k.conparentid = 0 ORDER BY 1, 2
$$;

CREATE FUNCTION pg_temp.say(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE '%  %', to_char(clock_timestamp(), 'HH24:MI:SS'), what;
END $$;

-- Makes the new table of t, empty, with all that belongs to it, and the trigger
-- that carries changes over.
CREATE FUNCTION pg_temp.make(t text, n int) RETURNS void LANGUAGE plpgsql AS $make$
DECLARE
  used text := pg_temp.used(t);
  made text := pg_temp.made(t);
  options text;
  partition text;
  names text[] := '{}';
  p record;
BEGIN
  FOR p IN SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indrelid = used::regclass AND NOT i.indisvalid LOOP
    RAISE EXCEPTION 'index % is invalid: build it again (REINDEX INDEX CONCURRENTLY) or drop it, and start again', p.relname;
  END LOOP;
  FOR p IN SELECT g.tgname FROM pg_trigger AS g WHERE g.tgrelid = used::regclass AND NOT g.tgisinternal AND g.tgenabled <> 'O' LOOP
    RAISE EXCEPTION 'trigger % of % is disabled: parley doctor says what is wrong with the schema', p.tgname, t;
  END LOOP;
  FOR p IN SELECT DISTINCT v.oid::regclass AS name FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid JOIN pg_class AS v ON v.oid = r.ev_class
      WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = used::regclass AND v.oid <> used::regclass LOOP
    RAISE EXCEPTION 'the view % reads %, and would go on reading the former table: drop it, and make it again afterwards', p.name, t;
  END LOOP;
  FOR p IN SELECT pubname FROM pg_publication_tables WHERE format('%I.%I', schemaname, tablename) = used LOOP
    RAISE WARNING 'the publication % has %: add the new table to it after the exchange', p.pubname, t;
  END LOOP;

  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES)%s', made, used, CASE WHEN n > 0 THEN ' PARTITION BY HASH (user_id)' ELSE '' END);
  -- A vacuum of a new table would keep the exchange waiting: it is turned on behind it.
  SELECT coalesce(string_agg(option || ', ', ''), '') || 'autovacuum_enabled = off' INTO options
    FROM unnest(pg_temp.options(used)) AS option WHERE option NOT LIKE 'autovacuum\_enabled=%';
  IF n = 0 THEN
    EXECUTE format('ALTER TABLE %s SET (%s)', made, options);
  END IF;
  FOR r IN 0 .. n - 1 LOOP
    partition := pg_temp.made(format('%s_%s_%s', t, n, lpad(r::text, length((n - 1)::text), '0')));
    names := names || partition;
    EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s) WITH (%s)', partition, made, n, r, options);
  END LOOP;
  FOR p IN SELECT * FROM pg_temp.parts(used, made) AS part WHERE part.kind <> '6 reference' LOOP
    EXECUTE p.definition;
  END LOOP;
  EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', made); -- until the exchange; those for rows also in the partitions
  -- A trigger for statements is that of the table which the statement names. Each
  -- partition gets it too, for those that name the partition.
  FOREACH partition IN ARRAY names LOOP
    FOR p IN SELECT * FROM pg_temp.parts(used, partition) AS part WHERE part.kind = '4 statement trigger' LOOP
      EXECUTE p.definition;
    END LOOP;
  END LOOP;

  EXECUTE format($f$
    CREATE FUNCTION %1$s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
      IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'this table is being moved: finish or abandon that first (deploy/scale/partition.sql)';
      END IF;
      IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND (OLD.user_id, OLD.id) IS DISTINCT FROM (NEW.user_id, NEW.id) THEN
        DELETE FROM %2$s WHERE user_id = OLD.user_id AND id = OLD.id;
      END IF;
      IF TG_OP <> 'DELETE' THEN
        INSERT INTO %2$s (%3$s) VALUES (%4$s) ON CONFLICT (user_id, id) DO UPDATE SET (%3$s) = ROW (%5$s);
      END IF;
      RETURN NULL;
    END $body$ $f$,
    pg_temp.aside('carry_' || t), made, pg_temp.columns(used::regclass, ''), pg_temp.columns(used::regclass, 'NEW.'), pg_temp.columns(used::regclass, 'excluded.'));
  EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM PUBLIC', pg_temp.aside('carry_' || t));
  -- What locks tables that are in use comes last.
  FOR p IN SELECT * FROM pg_temp.parts(used, made) AS part WHERE part.kind = '6 reference' LOOP
    EXECUTE p.definition;
  END LOOP;
  EXECUTE format('CREATE TRIGGER parley_move AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %s()', used, pg_temp.aside('carry_' || t));
  EXECUTE format('CREATE TRIGGER parley_move_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s()', used, pg_temp.aside('carry_' || t));
  EXECUTE format('INSERT INTO %s (name, partitions, fingerprint) VALUES ($1, $2, $3)', pg_temp.aside('progress')) USING t, n, pg_temp.fingerprint(used);
END $make$;

-- Copies the rows behind a position, at most so many, and returns how many, and the
-- next position, NULL behind the last row. The rows are locked against deletion
-- until the copies are visible, so that the trigger of a deletion finds them.
CREATE FUNCTION pg_temp.copy_batch(t text, batch int, after_user text, after_id text, OUT copied bigint, OUT to_user text, OUT to_id text) LANGUAGE plpgsql AS $$
DECLARE
  used text := pg_temp.used(t);
  columns text := pg_temp.columns(pg_temp.used(t)::regclass, '');
BEGIN
  EXECUTE format('SELECT user_id, id FROM %s WHERE (user_id, id) > ($1, $2) ORDER BY user_id, id OFFSET $3 - 1 LIMIT 1', used)
    INTO to_user, to_id USING after_user, after_id, batch;
  EXECUTE format('WITH batch AS MATERIALIZED (SELECT %1$s FROM %2$s WHERE (user_id, id) > ($1, $2)%4$s ORDER BY user_id, id FOR KEY SHARE)
    INSERT INTO %3$s (%1$s) SELECT %1$s FROM batch ON CONFLICT DO NOTHING', columns, used, pg_temp.made(t),
    CASE WHEN to_user IS NULL THEN '' ELSE ' AND (user_id, id) <= ($3, $4)' END) USING after_user, after_id, to_user, to_id;
  GET DIAGNOSTICS copied = ROW_COUNT;
  EXECUTE format('UPDATE %s SET last_user = $2, last_id = $3, copied = copied + $4, complete = $2 IS NULL WHERE name = $1', pg_temp.aside('progress'))
    USING t, to_user, to_id, copied;
END $$;

-- Compares both tables in one snapshot: the number of rows and a sum over all of them.
CREATE FUNCTION pg_temp.verify(t text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  found record;
BEGIN
  EXECUTE format('SELECT u.n AS used, m.n AS made, u.sum IS NOT DISTINCT FROM m.sum AS same FROM
    (SELECT count(*) AS n, sum(hashtextextended(r::text, 0)::numeric) AS sum FROM %s AS r) AS u,
    (SELECT count(*) AS n, sum(hashtextextended(r::text, 0)::numeric) AS sum FROM %s AS r) AS m', pg_temp.used(t), pg_temp.made(t)) INTO found;
  IF found.used <> found.made OR NOT found.same THEN
    RAISE EXCEPTION '%: the new table is not the same as the present one (% rows, % rows): abandon the move, and report this', t, found.made, found.used;
  END IF;
  PERFORM pg_temp.say(format('%s: both tables have the same %s rows', t, found.used));
END $$;

-- Has the tables that refer to t refer to the new one as well. What exists already
-- is checked while others write.
CREATE FUNCTION pg_temp.refer(t text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
  r record;
  later text[] := '{}';
BEGIN
  FOR r IN SELECT * FROM pg_temp.references_to(pg_temp.used(t)) LOOP
    IF NOT EXISTS (SELECT FROM pg_temp.references_to(pg_temp.made(t)) AS m WHERE m.from_table = r.from_table AND m.name = r.name || '_moved') THEN
      EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', r.from_table, r.name || '_moved',
        replace(r.definition, ' REFERENCES ' || pg_temp.used(t) || '(', ' REFERENCES ' || pg_temp.made(t) || '('));
    END IF;
    later := later || format('ALTER TABLE %s VALIDATE CONSTRAINT %I', r.from_table, r.name || '_moved');
  END LOOP;
  RETURN later;
END $$;

-- Keeps autovacuum from the present tables, whose locks it would keep for long, or
-- lets it come again. This blocks nobody, and ends a vacuum within a second or so.
CREATE FUNCTION pg_temp.set_autovacuum(t text, enabled boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  part regclass;
BEGIN
  FOR part IN SELECT pg_temp.storage(t) LOOP
    EXECUTE format('ALTER TABLE %s %s', part, CASE WHEN enabled THEN 'RESET (autovacuum_enabled)' ELSE 'SET (autovacuum_enabled = off)' END);
  END LOOP;
END $$;

-- Exchanges the tables. Every statement that waits for them goes on with the new ones.
CREATE FUNCTION pg_temp.exchange() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  t text;
  r record;
  statements text[] := '{}';
  begun text[] := pg_temp.begun();
  locked text := (SELECT string_agg(DISTINCT name, ', ') FROM (
    SELECT pg_temp.used(b) AS name FROM unnest(begun) AS b
    UNION ALL SELECT f.from_table FROM unnest(begun) AS b, pg_temp.references_to(pg_temp.used(b)) AS f) AS list);
BEGIN
  -- Nobody may change the definitions from here on; reads and writes go on.
  EXECUTE 'LOCK TABLE ' || locked || ' IN SHARE UPDATE EXCLUSIVE MODE';
  FOREACH t IN ARRAY begun LOOP
    EXECUTE format('SELECT fingerprint FROM %s WHERE name = $1', pg_temp.aside('progress')) INTO r USING t;
    IF r.fingerprint <> pg_temp.fingerprint(pg_temp.used(t)) THEN
      RAISE EXCEPTION 'the definition of % has changed since the move began, perhaps by a migration: abandon the move (-v abandon=1), and begin again', t;
    END IF;
    FOR r IN
      SELECT a.privilege_type AS privilege, '' AS columns, a.grantee, a.is_grantable
      FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE c.oid = pg_temp.used(t)::regclass AND a.grantee <> c.relowner
      UNION ALL
      SELECT a.privilege_type, format(' (%I)', k.attname), a.grantee, a.is_grantable
      FROM pg_attribute AS k, aclexplode(k.attacl) AS a WHERE k.attrelid = pg_temp.used(t)::regclass AND k.attnum > 0 AND NOT k.attisdropped
    LOOP
      EXECUTE format('GRANT %s%s ON %s TO %s%s', r.privilege, r.columns, pg_temp.made(t),
        CASE r.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.grantee)) END, CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    statements := statements || format('DROP TRIGGER parley_move ON %s', pg_temp.used(t)) || format('DROP TRIGGER parley_move_truncate ON %s', pg_temp.used(t));
    FOR r IN SELECT * FROM pg_temp.references_to(pg_temp.used(t)) LOOP
      IF NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = r.from_table::regclass AND k.conname = r.name || '_moved' AND k.convalidated) THEN
        RAISE EXCEPTION '% refers to % since the move began: run this again', r.from_table, t;
      END IF;
      statements := statements || format('ALTER TABLE %s DROP CONSTRAINT %I', r.from_table, r.name)
        || format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', r.from_table, r.name || '_moved', r.name);
    END LOOP;
    SELECT relrowsecurity AS enabled, relforcerowsecurity AS forced INTO r FROM pg_class WHERE oid = pg_temp.used(t)::regclass;
    IF r.enabled OR r.forced THEN
      statements := statements || format('ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', pg_temp.made(t),
        CASE WHEN r.enabled THEN 'ENABLE' ELSE 'DISABLE' END, CASE WHEN r.forced THEN 'FORCE' ELSE 'NO FORCE' END);
    END IF;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = pg_temp.made(t)::regclass AND NOT tgisinternal) THEN
      statements := statements || format('ALTER TABLE %s ENABLE TRIGGER USER', pg_temp.made(t));
    END IF;
    statements := statements || format('ALTER TABLE %s SET SCHEMA %I', pg_temp.used(t), current_setting('parley.move_source') || '_move')
      || format('ALTER TABLE %s SET SCHEMA %I', pg_temp.made(t), current_setting('parley.move_source'));
  END LOOP;
  EXECUTE 'LOCK TABLE ' || locked || ' IN ACCESS EXCLUSIVE MODE';
  FOREACH t IN ARRAY statements LOOP
    EXECUTE t;
  END LOOP;
  EXECUTE format('UPDATE %s SET exchanged = true', pg_temp.aside('progress'));
END $$;

-- Drops one of the former tables, which locks the tables that it refers to.
CREATE FUNCTION pg_temp.drop_former(t text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('DROP TABLE IF EXISTS %s', pg_temp.aside(t));
END $$;

-- Removes what was made, and leaves the tables as they are.
CREATE FUNCTION pg_temp.abandon(t text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  r record;
BEGIN
  EXECUTE format('DROP TRIGGER IF EXISTS parley_move ON %1$s; DROP TRIGGER IF EXISTS parley_move_truncate ON %1$s', pg_temp.used(t));
  FOR r IN SELECT * FROM pg_temp.references_to(pg_temp.made(t)) LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.from_table, r.name);
  END LOOP;
  PERFORM pg_temp.set_autovacuum(pg_temp.used(t), true);
  EXECUTE format('DROP TABLE %s', pg_temp.made(t));
  EXECUTE format('DROP FUNCTION %s()', pg_temp.aside('carry_' || t));
  EXECUTE format('DELETE FROM %s WHERE name = $1', pg_temp.aside('progress')) USING t;
END $$;

-- The tables whose move has begun.
CREATE FUNCTION pg_temp.begun() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
  list text[];
BEGIN
  EXECUTE format('SELECT coalesce(array_agg(name ORDER BY name), ''{}'') FROM %s', pg_temp.aside('progress')) INTO list;
  RETURN list;
END $$;

CREATE FUNCTION pg_temp.exchanged() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  yes boolean;
BEGIN
  EXECUTE format('SELECT coalesce(bool_or(exchanged), false) FROM %s', pg_temp.aside('progress')) INTO yes;
  RETURN yes;
END $$;

-- Executes a statement that needs locks. It waits for one for 50 ms, in which others
-- wait behind it, and else tries again after a pause in which they go on.
CREATE PROCEDURE pg_temp.patiently(what text, statement text) LANGUAGE plpgsql AS $$
DECLARE
  until_time timestamptz := clock_timestamp() + interval '10 minutes';
  done boolean := false;
  began timestamptz;
BEGIN
  LOOP
    SET LOCAL lock_timeout = '50ms';
    began := clock_timestamp();
    BEGIN
      EXECUTE statement;
      done := true;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      IF clock_timestamp() > until_time THEN
        RAISE EXCEPTION '%: other sessions have held locks for ten minutes; end long transactions (parley admin sql), and run this again', what;
      END IF;
    END;
    COMMIT;
    EXIT WHEN done;
    PERFORM pg_sleep(0.2 + 0.4 * random());
  END LOOP;
  PERFORM pg_temp.say(format('%s: %s ms', what, round(extract(epoch FROM clock_timestamp() - began) * 1000)));
END $$;

CREATE PROCEDURE pg_temp.copy(t text, batch int, pause float8) LANGUAGE plpgsql AS $$
DECLARE
  at record;
  n bigint;
  told timestamptz := clock_timestamp();
BEGIN
  LOOP
    EXECUTE format('SELECT last_user, last_id, copied, complete FROM %s WHERE name = $1', pg_temp.aside('progress')) INTO at USING t;
    EXIT WHEN at.complete;
    -- It gives up long before the server would look for a deadlock with a user's
    -- transaction, and begins the batch anew.
    SET LOCAL lock_timeout = '200ms';
    BEGIN
      PERFORM pg_temp.copy_batch(t, batch, at.last_user, at.last_id);
      n := 1;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      n := 0;
    END;
    COMMIT;
    IF n = 0 OR pause > 0 THEN
      PERFORM pg_sleep(greatest(pause, CASE n WHEN 0 THEN 0.1 ELSE 0 END));
    END IF;
    IF clock_timestamp() > told + interval '10 seconds' THEN
      told := clock_timestamp();
      PERFORM pg_temp.say(format('%s: %s rows are copied', t, at.copied));
    END IF;
  END LOOP;
  PERFORM pg_temp.say(format('%s: all rows are copied, %s by this copy, the others by those who wrote them', t, at.copied));
END $$;

CREATE PROCEDURE pg_temp.move(n int, batch int, pause float8, stop text) LANGUAGE plpgsql AS $$
DECLARE
  t text;
  other int;
  statement text;
  validations text[];
BEGIN
  IF to_regclass(pg_temp.aside('progress')) IS NULL THEN
    EXECUTE format('CREATE TABLE %s (name text PRIMARY KEY, partitions int NOT NULL, fingerprint text NOT NULL,
      last_user text DEFAULT '''', last_id text DEFAULT '''', copied bigint NOT NULL DEFAULT 0, complete boolean NOT NULL DEFAULT false,
      exchanged boolean NOT NULL DEFAULT false)', pg_temp.aside('progress'));
  END IF;
  COMMIT;
  EXECUTE format('SELECT partitions FROM %s WHERE partitions <> $1 LIMIT 1', pg_temp.aside('progress')) INTO other USING n;
  IF other IS NOT NULL THEN
    RAISE EXCEPTION 'a move to % partitions has begun: finish it (-v partitions=%), or abandon it (-v abandon=1)', other, other;
  END IF;
  IF NOT pg_temp.exchanged() THEN
    FOREACH t IN ARRAY pg_temp.tables() LOOP
      IF NOT t = ANY (pg_temp.begun()) AND pg_temp.partitions_of(pg_temp.used(t)::regclass) <> n THEN
        CALL pg_temp.patiently(t || ': the new table and the trigger are made', format('SELECT pg_temp.make(%L, %s)', t, n));
      END IF;
    END LOOP;
    IF pg_temp.begun() = '{}' THEN
      PERFORM pg_temp.say('nothing is to be done');
      RETURN;
    END IF;
    FOREACH t IN ARRAY pg_temp.begun() LOOP
      CALL pg_temp.copy(t, batch, pause);
    END LOOP;
    FOREACH t IN ARRAY pg_temp.begun() LOOP
      CALL pg_temp.patiently(t || ': references to the new table are made', format('SELECT pg_temp.refer(%L)', t));
      validations := pg_temp.refer(t);
      COMMIT;
      FOREACH statement IN ARRAY validations LOOP
        EXECUTE statement;
        COMMIT;
      END LOOP;
      EXECUTE 'ANALYZE ' || pg_temp.made(t);
      COMMIT;
      PERFORM pg_temp.verify(t);
      COMMIT;
    END LOOP;
    IF stop = 'verified' THEN
      PERFORM pg_temp.say('run this again without stop=verified to exchange the tables');
      RETURN;
    END IF;
    FOREACH t IN ARRAY pg_temp.begun() LOOP
      PERFORM pg_temp.set_autovacuum(pg_temp.used(t), false);
      COMMIT;
    END LOOP;
    CALL pg_temp.patiently('the tables are exchanged', 'SELECT pg_temp.exchange()');
  END IF;
  FOREACH t IN ARRAY pg_temp.begun() LOOP
    PERFORM pg_temp.set_autovacuum(pg_temp.used(t), true);
    COMMIT;
    CALL pg_temp.patiently(t || ': the former table is dropped', format('SELECT pg_temp.drop_former(%L)', t));
  END LOOP;
END $$;

CREATE PROCEDURE pg_temp.abandon_all() LANGUAGE plpgsql AS $$
DECLARE
  t text;
BEGIN
  IF to_regclass(pg_temp.aside('progress')) IS NULL THEN
    RETURN;
  END IF;
  IF pg_temp.exchanged() THEN
    RAISE EXCEPTION 'the tables are exchanged: move them back with -v partitions=... (0: ordinary tables), after a run of this that finishes';
  END IF;
  FOREACH t IN ARRAY pg_temp.begun() LOOP
    CALL pg_temp.patiently(t || ': what was made is removed', format('SELECT pg_temp.abandon(%L)', t));
  END LOOP;
END $$;

-- Removes what is not needed any more, unless a move is going on.
CREATE FUNCTION pg_temp.finish() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF to_regclass(pg_temp.aside('progress')) IS NOT NULL AND (pg_temp.begun() = '{}' OR pg_temp.exchanged()) THEN
    EXECUTE format('DROP SCHEMA %I CASCADE', current_setting('parley.move_source') || '_move');
  ELSIF to_regclass(pg_temp.aside('progress')) IS NULL THEN
    EXECUTE format('DROP SCHEMA %I', current_setting('parley.move_source') || '_move');
  END IF;
  IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(current_setting('parley.move_source') || '_partitions'))) THEN
    EXECUTE format('DROP SCHEMA %I', current_setting('parley.move_source') || '_partitions');
  END IF;
END $$;

-- Two of these at once would hinder each other.
SELECT pg_try_advisory_lock(hashtext('parley partition'), hashtext(:'schema')) AS alone \gset
\if :alone
\else
DO $$ BEGIN RAISE EXCEPTION 'another session moves the tables'; END $$;
\endif
\if :abandon
CALL pg_temp.abandon_all();
\else
CALL pg_temp.move(:partitions, :batch, :pause, :'stop');
\endif
SET client_min_messages = warning;
SELECT pg_temp.finish() \g /dev/null
