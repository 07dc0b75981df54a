-- +goose Up
-- A bad day: what is wrong, since when it is known, and the stored query for what it touches.
CREATE TABLE incidents (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id         TEXT COLLATE "C" NOT NULL UNIQUE,
  kind       TEXT COLLATE "C" NOT NULL,
  parent     TEXT COLLATE "C" NOT NULL,
  state      TEXT COLLATE "C" NOT NULL,
  title      TEXT COLLATE "C" NOT NULL,
  source     TEXT COLLATE "C" NOT NULL,
  source_ref TEXT COLLATE "C" NOT NULL,
  playbook   TEXT COLLATE "C" NOT NULL,
  cause      TEXT COLLATE "C" NOT NULL,
  reason     BIGINT NOT NULL,
  aware_at   BIGINT NOT NULL,
  opened_at  BIGINT NOT NULL,
  closed_at  BIGINT NOT NULL,
  actor      TEXT COLLATE "C" NOT NULL,
  duties     TEXT COLLATE "C" NOT NULL, -- JSON
  scope      TEXT COLLATE "C" NOT NULL, -- JSON
  deadlines  TEXT COLLATE "C" NOT NULL, -- JSON
  closing    TEXT COLLATE "C" NOT NULL
);
-- One record of a delay for one incident.
CREATE UNIQUE INDEX incidents_delayed ON incidents (parent) WHERE kind = 'delayed-revocation' AND state = 'open';

CREATE TABLE incident_counts (
  incident_seq BIGINT NOT NULL REFERENCES incidents (seq),
  number       BIGINT NOT NULL,
  at           BIGINT NOT NULL,
  items        BIGINT NOT NULL,
  live         BIGINT NOT NULL,
  digest       BYTEA NOT NULL,
  why          TEXT COLLATE "C" NOT NULL,
  actor        TEXT COLLATE "C" NOT NULL,
  leaf_seq     BIGINT NOT NULL,
  PRIMARY KEY (incident_seq, number)
);

-- What the newest count of the scope selected. A hold outlives the count: held rows stay with dropped = 1.
CREATE TABLE incident_items (
  incident_seq BIGINT NOT NULL REFERENCES incidents (seq),
  intent_seq   BIGINT NOT NULL,
  issuer       TEXT COLLATE "C" NOT NULL,
  serial       BYTEA NOT NULL,
  account_id   TEXT COLLATE "C" NOT NULL,
  dropped      BIGINT NOT NULL,
  held_why     TEXT COLLATE "C" NOT NULL,
  held_by      TEXT COLLATE "C" NOT NULL,
  held_at      BIGINT NOT NULL,
  PRIMARY KEY (incident_seq, intent_seq)
);
CREATE INDEX incident_items_account ON incident_items (account_id, incident_seq, intent_seq) WHERE account_id <> '';
CREATE INDEX incident_items_held ON incident_items (incident_seq, intent_seq) WHERE held_at > 0;
