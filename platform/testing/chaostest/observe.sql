-- What the harness wants to know of every change, written by the database
-- itself: nothing that an instance believes or forgets can bend it.

CREATE SCHEMA crash;

CREATE TABLE crash.steps (
  seq bigserial PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  user_id text NOT NULL,
  run_id text NOT NULL,
  attempt integer NOT NULL,
  state text NOT NULL,
  owner text NOT NULL,
  recorded text NOT NULL -- the output as it was before this step
);

CREATE TABLE crash.wrongs (
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  rule text NOT NULL,
  evidence text NOT NULL
);

-- All output that was ever recorded.
CREATE TABLE crash.output (
  user_id text NOT NULL,
  run_id text NOT NULL,
  at bigint NOT NULL,
  log text NOT NULL,
  PRIMARY KEY (user_id, run_id, at)
);

CREATE FUNCTION crash.on_output() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  behind bigint;
BEGIN
  IF TG_OP = 'UPDATE' AND left(NEW.log, length(OLD.log)) <> OLD.log THEN
    INSERT INTO crash.wrongs (rule, evidence) VALUES ('I7', 'run ' || NEW.run_id || ' replaced output that was recorded');
  END IF;
  SELECT max(o.at + octet_length(o.log)) INTO behind FROM crash.output AS o
    WHERE (o.user_id, o.run_id) = (NEW.user_id, NEW.run_id) AND o.at <> NEW.at;
  IF TG_OP = 'INSERT' AND behind <> NEW.at THEN
    INSERT INTO crash.wrongs (rule, evidence) VALUES ('I7', 'run ' || NEW.run_id || ' recorded output at ' || NEW.at || ' behind ' || behind);
  END IF;
  INSERT INTO crash.output (user_id, run_id, at, log) VALUES (NEW.user_id, NEW.run_id, NEW.at, NEW.log)
    ON CONFLICT (user_id, run_id, at) DO UPDATE SET log = excluded.log;
  RETURN NULL;
END $$;

CREATE TRIGGER crash_output AFTER INSERT OR UPDATE ON chat_run_output FOR EACH ROW EXECUTE FUNCTION crash.on_output();

CREATE FUNCTION crash.on_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  live constant text[] := ARRAY['queued', 'running'];
  name text := 'run ' || NEW.id || ' attempt ' || NEW.attempt;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF NOT OLD.state = ANY (live) THEN
      INSERT INTO crash.wrongs (rule, evidence) VALUES ('I2', name || ' was written as ' || NEW.state ||
        ' by ' || coalesce(NEW.owner, 'nobody') || ' after it had ended as ' || OLD.state);
    END IF;
    IF NEW.attempt < OLD.attempt THEN
      INSERT INTO crash.wrongs (rule, evidence) VALUES ('I2', name || ' came after attempt ' || OLD.attempt);
    END IF;
    IF NEW.owner IS NOT NULL AND NEW.owner IS DISTINCT FROM OLD.owner AND NEW.state = ANY (live) AND NEW.attempt <> OLD.attempt + 1 THEN
      INSERT INTO crash.wrongs (rule, evidence) VALUES ('I2', name || ' went from ' || coalesce(OLD.owner, 'nobody') ||
        ' to ' || NEW.owner || ' without a new attempt');
    END IF;
    IF NEW.state = OLD.state AND NEW.attempt = OLD.attempt AND NEW.owner IS NOT DISTINCT FROM OLD.owner THEN
      RETURN NULL;
    END IF;
  END IF;
  INSERT INTO crash.steps (user_id, run_id, attempt, state, owner, recorded)
  VALUES (NEW.user_id, NEW.id, NEW.attempt, NEW.state, coalesce(NEW.owner, ''),
    NEW.prefix || coalesce((SELECT string_agg(o.log, '' ORDER BY o.at) FROM crash.output AS o WHERE (o.user_id, o.run_id) = (NEW.user_id, NEW.id)), ''));
  RETURN NULL;
END $$;

CREATE TRIGGER crash_steps AFTER INSERT OR UPDATE ON chat_runs FOR EACH ROW EXECUTE FUNCTION crash.on_run();

CREATE FUNCTION crash.never() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO crash.wrongs (rule, evidence) VALUES (TG_ARGV[0], TG_OP || ' of ' || TG_TABLE_NAME || ' ' || OLD.id);
  RETURN NULL;
END $$;

-- What stood behind a reply that left no text moves up; nothing else changes.
CREATE TRIGGER crash_never AFTER UPDATE ON chat_messages FOR EACH ROW
  WHEN ((OLD.id, OLD.user_id, OLD.conversation_id, OLD.role, OLD.content, OLD.parts::text, OLD.created_at)
    IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.conversation_id, NEW.role, NEW.content, NEW.parts::text, NEW.created_at))
  EXECUTE FUNCTION crash.never('I1');
CREATE TRIGGER crash_gone AFTER DELETE ON chat_messages FOR EACH ROW EXECUTE FUNCTION crash.never('I1');
CREATE TRIGGER crash_gone AFTER DELETE ON chat_runs FOR EACH ROW EXECUTE FUNCTION crash.never('I2');
CREATE TRIGGER crash_gone AFTER DELETE ON audit_logs FOR EACH ROW EXECUTE FUNCTION crash.never('I3');
CREATE TRIGGER crash_final AFTER UPDATE ON audit_logs FOR EACH ROW WHEN (OLD.status <> 'pending')
  EXECUTE FUNCTION crash.never('I3');
