-- +goose Up
-- What people wrote for the reports of an incident. The newest number counts.
CREATE TABLE incident_fields (
  incident TEXT NOT NULL,
  field    TEXT NOT NULL,
  number   INTEGER NOT NULL,
  text     TEXT NOT NULL,
  actor    TEXT NOT NULL,
  at       INTEGER NOT NULL,
  leaf_seq INTEGER NOT NULL,
  PRIMARY KEY (incident, field, number)
) STRICT, WITHOUT ROWID;

-- A time at which everybody concerned is told.
CREATE TABLE notice_steps (
  incident  TEXT NOT NULL,
  step      TEXT NOT NULL,
  day       TEXT NOT NULL,
  what      TEXT NOT NULL,
  todo      TEXT NOT NULL,
  until     INTEGER NOT NULL,
  actor     TEXT NOT NULL,
  at        INTEGER NOT NULL,
  leaf_seq  INTEGER NOT NULL,
  PRIMARY KEY (incident, step)
) STRICT, WITHOUT ROWID;

-- One message of a step to one recipient: nobody is told twice.
CREATE TABLE incident_notices (
  seq        INTEGER PRIMARY KEY,
  incident   TEXT NOT NULL,
  step       TEXT NOT NULL,
  channel    TEXT NOT NULL,
  recipient  TEXT NOT NULL,
  account_id TEXT NOT NULL,
  partner    TEXT NOT NULL,
  language   TEXT NOT NULL,
  items      INTEGER NOT NULL,
  message_id TEXT NOT NULL,
  state      TEXT NOT NULL,
  tries      INTEGER NOT NULL,
  moved_at   INTEGER NOT NULL,
  problem    TEXT NOT NULL,
  UNIQUE (incident, step, channel, recipient, account_id, partner)
) STRICT;
CREATE INDEX incident_notices_state ON incident_notices (incident, step, state, seq);
CREATE INDEX incident_notices_message ON incident_notices (message_id);
CREATE INDEX incident_notices_bad ON incident_notices (seq) WHERE state IN ('bounced', 'no-contact');
