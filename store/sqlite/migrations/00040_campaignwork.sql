-- +goose Up
-- Items lie in the order of the plan, in which they are worked on: a chunk touches few pages, whatever the order of issue.
-- Their certificates are found by issuer, serial and key in the certificates' own indexes.
CREATE TABLE campaign_items_in_order (
  campaign_seq       INTEGER NOT NULL REFERENCES campaigns (seq),
  ordinal            INTEGER NOT NULL, -- position in the plan, from 1
  intent_seq         INTEGER NOT NULL,
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
  path               TEXT NOT NULL DEFAULT '', -- rows of campaign_moves that it went through, each after a comma
  PRIMARY KEY (campaign_seq, ordinal)
) STRICT, WITHOUT ROWID;
INSERT INTO campaign_items_in_order (campaign_seq, ordinal, intent_seq, issuer, serial, wave, state, product, account_id, order_id, name, key_hash, own, critical, notify_at, window_start,
    window_end, revoke_at, deadline, not_after, replacement_issuer, replacement_serial, vulnerable, change_id, detail, moved_at)
  SELECT campaign_seq, ordinal, intent_seq, issuer, serial, wave, state, product, account_id, order_id, name, key_hash, own, critical, notify_at, window_start,
    window_end, revoke_at, deadline, not_after, replacement_issuer, replacement_serial, vulnerable, change_id, detail, moved_at FROM campaign_items ORDER BY campaign_seq, ordinal;
DROP TABLE campaign_items;
ALTER TABLE campaign_items_in_order RENAME TO campaign_items;
CREATE UNIQUE INDEX campaign_items_intent ON campaign_items (campaign_seq, intent_seq);
CREATE INDEX campaign_items_account ON campaign_items (account_id, name);
CREATE INDEX campaign_items_state ON campaign_items (campaign_seq, state, ordinal);
CREATE INDEX campaign_items_own ON campaign_items (campaign_seq, state) WHERE own = 1;
CREATE INDEX campaign_items_early ON campaign_items (campaign_seq, ordinal) WHERE state = 'notified' AND replacement_issuer <> '';

-- Steps that items took together; what stood in campaign_steps before stays there.
CREATE TABLE campaign_moves (
  seq          INTEGER PRIMARY KEY,
  campaign_seq INTEGER NOT NULL REFERENCES campaigns (seq),
  state        TEXT NOT NULL,
  at           INTEGER NOT NULL,
  leaf_seq     INTEGER NOT NULL, -- the evidence
  detail       TEXT NOT NULL
) STRICT;
