-- An erasure becomes possible only together with its link of the chain, by one
-- function; the wrapped root of the chain is only ever added to; and a link can
-- only be put behind the last one.

-- A rotation of the secret adds a row.
ALTER TABLE audit_root DROP CONSTRAINT audit_root_one_check;

CREATE TRIGGER audit_root_update BEFORE UPDATE ON audit_root FOR EACH ROW EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_root_truncate BEFORE TRUNCATE ON audit_root FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE OR REPLACE FUNCTION audit_refuse_undeclared() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM audit_erasures AS e WHERE e.user_id = OLD.user_id
      AND EXISTS (SELECT 1 FROM audit_chain AS l WHERE l.subject = e.subject AND l.kind = 'erased')) THEN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN OLD;
END;
$$;

CREATE FUNCTION audit_check_append() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    SELECT 1 FROM added AS a LEFT JOIN audit_chain AS p ON p.seq = a.seq - 1
    WHERE a.seq < 1 OR octet_length(a.digest) <> 32 OR octet_length(a.hash) <> 32
      OR a.prev IS DISTINCT FROM CASE a.seq WHEN 1 THEN decode(repeat('00', 32), 'hex') ELSE p.hash END
      OR a.kind = 'erased' AND NOT EXISTS (SELECT 1 FROM audit_erasures AS e WHERE e.subject = a.subject)
  ) THEN
    RAISE EXCEPTION 'audit_chain is append-only: a link must follow the last one, and an erasure must be declared'
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END;
$$;

CREATE TRIGGER audit_chain_append AFTER INSERT ON audit_chain REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION audit_check_append();

-- Declares the erasure of a user: the declaration, the erased link and the end
-- of the user's key are one step. The link's hash is the caller's to make; one
-- that was made without the key of the chain is found by parley audit verify.
CREATE FUNCTION audit_declare_erasure(erased text, link_subject text, link_seq bigint, link_prev bytea, link_hash bytea, link_at timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  known text;
BEGIN
  SELECT k.subject INTO known FROM audit_keys AS k WHERE k.user_id = erased;
  IF erased = '' OR link_subject IS DISTINCT FROM coalesce(known, link_subject)
      OR known IS NULL AND EXISTS (SELECT 1 FROM audit_keys AS k WHERE k.subject = link_subject)
      OR known IS NULL AND EXISTS (SELECT 1 FROM audit_chain AS l WHERE l.subject = link_subject) THEN
    RAISE EXCEPTION 'audit_erasures is append-only: the subject is not this user''s' USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO audit_erasures (user_id, subject, declared_at) VALUES (erased, link_subject, clock_timestamp());
  INSERT INTO audit_chain (seq, subject, entry_id, kind, digest, prev, hash, sealed_at)
  VALUES (link_seq, link_subject, '', 'erased', decode(repeat('00', 32), 'hex'), link_prev, link_hash, link_at);
  DELETE FROM audit_keys WHERE user_id = erased;
END;
$$;

-- Ends a declared erasure: the entries that have come since the last batch go
-- with the declaration.
CREATE FUNCTION audit_end_erasure(erased text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  DELETE FROM audit_logs WHERE user_id = erased;
  DELETE FROM audit_erasures WHERE user_id = erased;
END;
$$;

-- The queue of the sealer is written by triggers alone.
ALTER FUNCTION audit_enqueue() SECURITY DEFINER;

ALTER FUNCTION audit_dequeue() SECURITY DEFINER;

-- Names in these functions mean this schema's tables, never a temporary table
-- of the session; and nobody can hang them on a table of their own.
DO $$
DECLARE
  f record;
BEGIN
  FOR f IN SELECT p.oid::regprocedure AS name FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = current_schema() AND p.proname IN ('audit_refuse', 'audit_refuse_undeclared', 'audit_enqueue', 'audit_dequeue',
      'audit_erase', 'audit_check_append', 'audit_declare_erasure', 'audit_end_erasure')
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', f.name, current_schema());
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.name);
  END LOOP;
END;
$$;
