-- The audit log becomes append-only, and its entries are sealed in a hash chain.

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

CREATE INDEX audit_unsealed_entry_idx ON audit_unsealed (user_id, entry_id);

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

-- The key of the chain, encrypted with AUDIT_KEY. One row.
CREATE TABLE audit_root (
  id integer NOT NULL,
  wrapped bytea NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT audit_root_one_check CHECK (id = 1)
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

CREATE FUNCTION audit_refuse_undeclared() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM audit_erasures WHERE user_id = OLD.user_id) THEN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN OLD;
END;
$$;

CREATE FUNCTION audit_enqueue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_unsealed (user_id, entry_id, kind)
  VALUES (NEW.user_id, NEW.id, CASE NEW.status WHEN 'pending' THEN 'opened' ELSE 'closed' END);
  RETURN NULL;
END;
$$;

-- Deletes the queue's rows of a deleted entry. The entry is locked by now, so this
-- finds what transactions that held the lock before have queued.
CREATE FUNCTION audit_dequeue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM audit_unsealed WHERE user_id = OLD.user_id AND entry_id = OLD.id;
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

CREATE TRIGGER audit_logs_enqueue AFTER INSERT OR UPDATE ON audit_logs FOR EACH ROW EXECUTE FUNCTION audit_enqueue();

CREATE TRIGGER audit_logs_dequeue AFTER DELETE ON audit_logs FOR EACH ROW EXECUTE FUNCTION audit_dequeue();

CREATE TRIGGER audit_chain_change BEFORE UPDATE OR DELETE ON audit_chain FOR EACH ROW EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_chain_truncate BEFORE TRUNCATE ON audit_chain FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_keys_update BEFORE UPDATE ON audit_keys FOR EACH ROW EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_keys_delete BEFORE DELETE ON audit_keys FOR EACH ROW EXECUTE FUNCTION audit_refuse_undeclared();

CREATE TRIGGER audit_keys_truncate BEFORE TRUNCATE ON audit_keys FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- Deletes entries of a user whose erasure is recorded. It runs with the rights of
-- the owner, so that the application's role needs no DELETE on the log.
CREATE FUNCTION audit_erase(erased text, most bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
  WITH gone AS (
    DELETE FROM audit_logs WHERE user_id = erased
      AND id IN (SELECT id FROM audit_logs WHERE user_id = erased LIMIT most) RETURNING 1)
  SELECT count(*) FROM gone;
$$;

REVOKE ALL ON FUNCTION audit_erase(text, bigint) FROM PUBLIC;

-- Entries that exist already.
INSERT INTO audit_unsealed (user_id, entry_id, kind)
SELECT user_id, id, CASE status WHEN 'pending' THEN 'opened' ELSE 'closed' END FROM audit_logs ORDER BY created_at, id;
