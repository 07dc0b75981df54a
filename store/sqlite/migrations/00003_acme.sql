-- +goose Up
-- Keys with which an operator lets one account be made each (RFC 8555 section 7.3.4). The MAC keys are not here.
CREATE TABLE external_keys (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  note       TEXT NOT NULL,
  actor      TEXT NOT NULL,
  account_id TEXT NOT NULL, -- '' while unused
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at    INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL
) STRICT;

-- State of the rate limits (GCRA): the theoretical arrival time of the next unit, in unix microseconds. A row whose time
-- has passed says nothing and may go.
CREATE TABLE rate_limits (
  key TEXT PRIMARY KEY,
  tat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX rate_limits_tat ON rate_limits (tat);

-- For "which authorisations were validated since, by this method".
CREATE INDEX validations_at ON validations (at);
