-- +goose Up
-- A bad day: what is wrong, since when it is known, and the stored query for what it touches.
CREATE TABLE incidents (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  kind       TEXT NOT NULL,
  parent     TEXT NOT NULL,
  state      TEXT NOT NULL,
  title      TEXT NOT NULL,
  source     TEXT NOT NULL,
  source_ref TEXT NOT NULL,
  playbook   TEXT NOT NULL,
  cause      TEXT NOT NULL,
  reason     INTEGER NOT NULL,
  aware_at   INTEGER NOT NULL,
  opened_at  INTEGER NOT NULL,
  closed_at  INTEGER NOT NULL,
  actor      TEXT NOT NULL,
  duties     TEXT NOT NULL, -- JSON
  scope      TEXT NOT NULL, -- JSON
  deadlines  TEXT NOT NULL, -- JSON
  closing    TEXT NOT NULL
) STRICT;
-- One record of a delay for one incident.
CREATE UNIQUE INDEX incidents_delayed ON incidents (parent) WHERE kind = 'delayed-revocation' AND state = 'open';

CREATE TABLE incident_counts (
  incident_seq INTEGER NOT NULL REFERENCES incidents (seq),
  number       INTEGER NOT NULL,
  at           INTEGER NOT NULL,
  items        INTEGER NOT NULL,
  live         INTEGER NOT NULL,
  digest       BLOB NOT NULL,
  why          TEXT NOT NULL,
  actor        TEXT NOT NULL,
  leaf_seq     INTEGER NOT NULL,
  PRIMARY KEY (incident_seq, number)
) STRICT, WITHOUT ROWID;

-- What the newest count of the scope selected. A hold outlives the count: held rows stay with dropped = 1.
CREATE TABLE incident_items (
  incident_seq INTEGER NOT NULL REFERENCES incidents (seq),
  intent_seq   INTEGER NOT NULL,
  issuer       TEXT NOT NULL,
  serial       BLOB NOT NULL,
  account_id   TEXT NOT NULL,
  dropped      INTEGER NOT NULL,
  held_why     TEXT NOT NULL,
  held_by      TEXT NOT NULL,
  held_at      INTEGER NOT NULL,
  PRIMARY KEY (incident_seq, intent_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_items_account ON incident_items (account_id, incident_seq, intent_seq) WHERE account_id <> '';
CREATE INDEX incident_items_held ON incident_items (incident_seq, intent_seq) WHERE held_at > 0;
