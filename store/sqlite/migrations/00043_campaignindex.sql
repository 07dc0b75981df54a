-- +goose Up
-- States that most items pass through together are not worth an index: two entries for each step of each item. What is under
-- way, on hold or reopened is found by this one.
DROP INDEX campaign_items_state;
CREATE INDEX campaign_items_going ON campaign_items (campaign_seq, state, ordinal) WHERE state NOT IN ('planned', 'old-revoked', 'expired');

-- The keys that a started campaign refuses, each once: one may be on very many certificates.
CREATE TABLE campaign_keys (
  key_hash     BLOB NOT NULL,
  campaign_seq INTEGER NOT NULL REFERENCES campaigns (seq),
  PRIMARY KEY (key_hash, campaign_seq)
) STRICT, WITHOUT ROWID;
INSERT INTO campaign_keys (key_hash, campaign_seq)
  SELECT DISTINCT i.key_hash, i.campaign_seq FROM campaign_items i JOIN campaigns c ON c.seq = i.campaign_seq WHERE c.started_at > 0 AND c.state <> 'closed' AND length(i.key_hash) = 32;

-- What a step of many items says stands once, with the step: an item has its number, and keeps its size.
ALTER TABLE campaign_items ADD COLUMN move_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE campaign_moves ADD COLUMN change_id TEXT NOT NULL DEFAULT '';
