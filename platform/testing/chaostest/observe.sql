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
    IF NEW.state = ANY (live) AND (
        left(NEW.text, length(OLD.text)) <> OLD.text OR left(NEW.reasoning, length(OLD.reasoning)) <> OLD.reasoning
        OR (NEW.reasoning <> OLD.reasoning AND OLD.text <> '')) THEN
      INSERT INTO crash.wrongs (rule, evidence) VALUES ('I7', name || ' replaced output that was recorded');
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
    CASE WHEN TG_OP = 'UPDATE' THEN OLD.reasoning || OLD.text ELSE '' END);
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
  WHEN ((OLD.id, OLD.user_id, OLD.conversation_id, OLD.role, OLD.content, OLD.created_at)
    IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.conversation_id, NEW.role, NEW.content, NEW.created_at))
  EXECUTE FUNCTION crash.never('I1');
CREATE TRIGGER crash_gone AFTER DELETE ON chat_messages FOR EACH ROW EXECUTE FUNCTION crash.never('I1');
CREATE TRIGGER crash_gone AFTER DELETE ON chat_runs FOR EACH ROW EXECUTE FUNCTION crash.never('I2');
CREATE TRIGGER crash_gone AFTER DELETE ON audit_logs FOR EACH ROW EXECUTE FUNCTION crash.never('I3');
CREATE TRIGGER crash_final AFTER UPDATE ON audit_logs FOR EACH ROW WHEN (OLD.status <> 'pending')
  EXECUTE FUNCTION crash.never('I3');
