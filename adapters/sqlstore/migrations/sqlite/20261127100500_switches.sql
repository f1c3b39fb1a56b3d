-- What operators have disabled while the service runs: chat as a whole (''), or a
-- provider by its name. A row disables; instances read the table every half second.
-- It holds nothing of users.

CREATE TABLE chat_switches (
  provider text NOT NULL,
  reason text NOT NULL,
  disabled_at datetime NOT NULL,
  PRIMARY KEY (provider)
);
