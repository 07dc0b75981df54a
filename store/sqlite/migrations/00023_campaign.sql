-- +goose Up
CREATE TABLE campaigns (
  seq         INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE,
  incident    TEXT NOT NULL,
  state       TEXT NOT NULL,
  generation  INTEGER NOT NULL, -- of the plan in force; work of an older one is void
  plan_hash   BLOB NOT NULL,
  parent_hash BLOB NOT NULL,
  plan        BLOB NOT NULL, -- JSON without the assignments, which are the items
  needs       TEXT NOT NULL, -- JSON
  tickets     INTEGER NOT NULL,
  reason      INTEGER NOT NULL,
  items       INTEGER NOT NULL,
  deadline    INTEGER NOT NULL,
  force_at    INTEGER NOT NULL,
  approval    TEXT NOT NULL,
  actor       TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  started_at  INTEGER NOT NULL,
  closed_at   INTEGER NOT NULL,
  cursor      INTEGER NOT NULL  -- outcome up to which new certificates were looked at for replacements
) STRICT;
-- One campaign at a time for one incident: two would race for the same certificates.
CREATE UNIQUE INDEX campaigns_incident ON campaigns (incident) WHERE state <> 'closed';

CREATE TABLE campaign_items (
  campaign_seq       INTEGER NOT NULL REFERENCES campaigns (seq),
  intent_seq         INTEGER NOT NULL,
  ordinal            INTEGER NOT NULL, -- position in the plan, from 1
  issuer             TEXT NOT NULL,
  serial             BLOB NOT NULL,
  wave               INTEGER NOT NULL,
  state              TEXT NOT NULL,
  product            TEXT NOT NULL,
  account_id         TEXT NOT NULL,
  order_id           TEXT NOT NULL,
  name               TEXT NOT NULL,
  key_hash           BLOB NOT NULL,
  own                INTEGER NOT NULL,
  critical           INTEGER NOT NULL,
  notify_at          INTEGER NOT NULL,
  window_start       INTEGER NOT NULL,
  window_end         INTEGER NOT NULL,
  revoke_at          INTEGER NOT NULL,
  deadline           INTEGER NOT NULL,
  not_after          INTEGER NOT NULL,
  replacement_issuer TEXT NOT NULL,
  replacement_serial BLOB NOT NULL,
  vulnerable         INTEGER NOT NULL,
  change_id          TEXT NOT NULL,
  detail             TEXT NOT NULL,
  moved_at           INTEGER NOT NULL,
  PRIMARY KEY (campaign_seq, intent_seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX campaign_items_ordinal ON campaign_items (campaign_seq, ordinal);
CREATE INDEX campaign_items_ref ON campaign_items (issuer, serial);
CREATE INDEX campaign_items_key ON campaign_items (key_hash);
CREATE INDEX campaign_items_account ON campaign_items (account_id, name);
CREATE INDEX campaign_items_state ON campaign_items (campaign_seq, state, ordinal);

-- What an item went through; leaf_seq is the evidence, of the item or of the batch it was moved with.
CREATE TABLE campaign_steps (
  campaign_seq INTEGER NOT NULL,
  intent_seq   INTEGER NOT NULL,
  number       INTEGER NOT NULL,
  state        TEXT NOT NULL,
  at           INTEGER NOT NULL,
  leaf_seq     INTEGER NOT NULL,
  detail       TEXT NOT NULL,
  PRIMARY KEY (campaign_seq, intent_seq, number)
) STRICT, WITHOUT ROWID;

-- Work by chunks of items, taken by lease and fenced by the generation of the plan (decision 0010).
CREATE TABLE campaign_jobs (
  seq          INTEGER PRIMARY KEY,
  campaign_seq INTEGER NOT NULL REFERENCES campaigns (seq),
  generation   INTEGER NOT NULL,
  kind         TEXT NOT NULL,
  first        INTEGER NOT NULL,
  last         INTEGER NOT NULL,
  due_at       INTEGER NOT NULL,
  done         INTEGER NOT NULL,
  holder       TEXT NOT NULL,
  lease_until  INTEGER NOT NULL,
  change_id    TEXT NOT NULL,
  tries        INTEGER NOT NULL,
  problem      TEXT NOT NULL
) STRICT;
CREATE INDEX campaign_jobs_due ON campaign_jobs (campaign_seq, generation, due_at) WHERE done = 0;

CREATE TABLE campaign_attempts (
  seq          INTEGER PRIMARY KEY,
  campaign_seq INTEGER NOT NULL REFERENCES campaigns (seq),
  key_hash     BLOB NOT NULL,
  account_id   TEXT NOT NULL,
  order_id     TEXT NOT NULL,
  at           INTEGER NOT NULL
) STRICT;
CREATE INDEX campaign_attempts_campaign ON campaign_attempts (campaign_seq);

-- Codes for one free reissue each. The codes are not here: a hash is.
CREATE TABLE tickets (
  seq             INTEGER PRIMARY KEY,
  id              TEXT NOT NULL UNIQUE,
  campaign        TEXT NOT NULL,
  replaces_issuer TEXT NOT NULL,
  replaces_serial BLOB NOT NULL,
  order_id        TEXT NOT NULL,
  name            TEXT NOT NULL,
  account_id      TEXT NOT NULL,
  code_hash       BLOB NOT NULL UNIQUE,
  actor           TEXT NOT NULL,
  created_at      INTEGER NOT NULL,
  expires_at      INTEGER NOT NULL,
  claimed_at      INTEGER NOT NULL,
  request         BLOB NOT NULL,
  redeemed_at     INTEGER NOT NULL,
  used_issuer     TEXT NOT NULL,
  used_serial     BLOB NOT NULL
) STRICT;
-- One ticket for one item of a campaign.
CREATE UNIQUE INDEX tickets_item ON tickets (campaign, replaces_issuer, replaces_serial) WHERE campaign <> '';
CREATE INDEX tickets_account ON tickets (account_id, seq);
