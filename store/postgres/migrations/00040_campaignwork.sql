-- +goose Up
-- Certificates of items are found by issuer, serial and key in the certificates' own indexes: each index here costs every
-- step of every item.
DROP INDEX campaign_items_ref;
DROP INDEX campaign_items_key;
-- Rows of campaign_moves that an item went through, each after a comma.
ALTER TABLE campaign_items ADD COLUMN path TEXT COLLATE "C" NOT NULL DEFAULT '';

-- Steps that items took together; what stood in campaign_steps before stays there.
CREATE TABLE campaign_moves (
  seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  campaign_seq BIGINT NOT NULL REFERENCES campaigns (seq),
  state        TEXT COLLATE "C" NOT NULL,
  at           BIGINT NOT NULL,
  leaf_seq     BIGINT NOT NULL, -- the evidence
  detail       TEXT COLLATE "C" NOT NULL
);
