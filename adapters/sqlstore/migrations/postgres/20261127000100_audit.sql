-- The audit log, which is append-only, and the hash chain that seals its entries.

-- No foreign key: audit entries outlive the user.
CREATE TABLE audit_logs (
  user_id text NOT NULL DEFAULT '',
  id text NOT NULL,
  action text NOT NULL,
  resource text NOT NULL,
  resource_id text NULL,
  metadata jsonb NULL,
  ip_address text NULL,
  user_agent text NULL,
  status text NOT NULL DEFAULT 'success',
  error_message text NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT audit_logs_status_check CHECK (status IN ('pending', 'success', 'failure'))
);

CREATE INDEX audit_logs_user_idx ON audit_logs (user_id, created_at);

CREATE INDEX audit_logs_action_idx ON audit_logs (action, created_at);

-- The queue of the sealer. A trigger inserts into it in the transaction of the
-- entry, so that no entry is missed, however late it commits.
CREATE TABLE audit_unsealed (
  n bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  user_id text NOT NULL,
  entry_id text NOT NULL,
  kind text NOT NULL,
  queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (n)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE audit_chain (
  seq bigint NOT NULL,
  subject text NOT NULL,
  entry_id text NOT NULL,
  kind text NOT NULL,
  digest bytea NOT NULL,
  prev bytea NOT NULL,
  hash bytea NOT NULL,
  sealed_at timestamptz NOT NULL,
  PRIMARY KEY (seq),
  CONSTRAINT audit_chain_kind_check CHECK (kind IN ('opened', 'closed', 'erased'))
);

CREATE INDEX audit_chain_erased_idx ON audit_chain (subject) WHERE kind = 'erased';

-- The user of each subject of the chain, and the salt of the subject's digests.
CREATE TABLE audit_keys (
  user_id text NOT NULL,
  subject text NOT NULL,
  salt bytea NOT NULL,
  PRIMARY KEY (user_id)
);

CREATE UNIQUE INDEX audit_keys_subject_key ON audit_keys (subject);

-- The key of the chain, encrypted: a row for each secret that opens it. A rotation
-- of the secret adds a row.
CREATE TABLE audit_root (
  id integer NOT NULL,
  wrapped bytea NOT NULL,
  PRIMARY KEY (id)
);

-- Users whose erasure is recorded in the chain and not finished yet.
CREATE TABLE audit_erasures (
  user_id text NOT NULL,
  subject text NOT NULL,
  declared_at timestamptz NOT NULL,
  PRIMARY KEY (user_id)
);

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END;
$$;

-- An erasure is possible only together with its link of the chain.
CREATE FUNCTION audit_refuse_undeclared() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM audit_erasures AS e WHERE e.user_id = OLD.user_id
      AND EXISTS (SELECT 1 FROM audit_chain AS l WHERE l.subject = e.subject AND l.kind = 'erased')) THEN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN OLD;
END;
$$;

-- A link can only be put behind the last one.
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

-- The queue of the sealer is written by triggers alone, once for a statement: one
-- statement writes the entries of many users.
CREATE FUNCTION audit_enqueue() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO audit_unsealed (user_id, entry_id, kind)
  SELECT w.user_id, w.id, CASE w.status WHEN 'pending' THEN 'opened' ELSE 'closed' END FROM written AS w;
  RETURN NULL;
END;
$$;

-- Deletes the queue's rows of deleted entries. The entries are locked by now, so
-- this finds what transactions that held the locks before have queued. It reads the
-- whole queue, once for a statement: an index would cost each turn two entries.
CREATE FUNCTION audit_dequeue() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  DELETE FROM audit_unsealed AS q USING gone AS g WHERE q.user_id = g.user_id AND q.entry_id = g.id;
  RETURN NULL;
END;
$$;

-- The only change that an entry permits: its outcome is set, once.
CREATE TRIGGER audit_logs_complete BEFORE UPDATE ON audit_logs FOR EACH ROW
  WHEN (NOT (OLD.status = 'pending' AND NEW.status IN ('success', 'failure')
    AND (OLD.user_id, OLD.id, OLD.action, OLD.resource, OLD.resource_id, OLD.metadata::text, OLD.ip_address, OLD.user_agent, OLD.created_at)
      IS NOT DISTINCT FROM
      (NEW.user_id, NEW.id, NEW.action, NEW.resource, NEW.resource_id, NEW.metadata::text, NEW.ip_address, NEW.user_agent, NEW.created_at)))
  EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_logs_delete BEFORE DELETE ON audit_logs FOR EACH ROW EXECUTE FUNCTION audit_refuse_undeclared();

CREATE TRIGGER audit_logs_truncate BEFORE TRUNCATE ON audit_logs FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_logs_enqueue AFTER INSERT ON audit_logs REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION audit_enqueue();

CREATE TRIGGER audit_logs_enqueue_outcome AFTER UPDATE ON audit_logs REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION audit_enqueue();

CREATE TRIGGER audit_logs_dequeue AFTER DELETE ON audit_logs REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION audit_dequeue();

CREATE TRIGGER audit_chain_change BEFORE UPDATE OR DELETE ON audit_chain FOR EACH ROW EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_chain_truncate BEFORE TRUNCATE ON audit_chain FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_chain_append AFTER INSERT ON audit_chain REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION audit_check_append();

CREATE TRIGGER audit_keys_update BEFORE UPDATE ON audit_keys FOR EACH ROW EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_keys_delete BEFORE DELETE ON audit_keys FOR EACH ROW EXECUTE FUNCTION audit_refuse_undeclared();

CREATE TRIGGER audit_keys_truncate BEFORE TRUNCATE ON audit_keys FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_root_update BEFORE UPDATE ON audit_root FOR EACH ROW EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_root_truncate BEFORE TRUNCATE ON audit_root FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- Deletes entries of a user whose erasure is recorded. It runs with the rights of
-- the owner, so that the application's role needs no DELETE on the log.
CREATE FUNCTION audit_erase(erased text, most bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$
  WITH gone AS (
    DELETE FROM audit_logs WHERE user_id = erased
      AND id IN (SELECT id FROM audit_logs WHERE user_id = erased LIMIT most) RETURNING 1)
  SELECT count(*) FROM gone;
$$;

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
