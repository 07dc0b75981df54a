-- +goose Up
CREATE TABLE campaigns (
  seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id          TEXT COLLATE "C" NOT NULL UNIQUE,
  incident    TEXT COLLATE "C" NOT NULL,
  state       TEXT COLLATE "C" NOT NULL,
  generation  BIGINT NOT NULL, -- of the plan in force; work of an older one is void
  plan_hash   BYTEA NOT NULL,
  parent_hash BYTEA NOT NULL,
  plan        BYTEA NOT NULL, -- JSON without the assignments, which are the items
  needs       TEXT COLLATE "C" NOT NULL, -- JSON
  tickets     BIGINT NOT NULL,
  reason      BIGINT NOT NULL,
  items       BIGINT NOT NULL,
  deadline    BIGINT NOT NULL,
  force_at    BIGINT NOT NULL,
  approval    TEXT COLLATE "C" NOT NULL,
  actor       TEXT COLLATE "C" NOT NULL,
  created_at  BIGINT NOT NULL,
  started_at  BIGINT NOT NULL,
  closed_at   BIGINT NOT NULL,
  cursor      BIGINT NOT NULL  -- outcome up to which new certificates were looked at for replacements
);
-- One campaign at a time for one incident: two would race for the same certificates.
CREATE UNIQUE INDEX campaigns_incident ON campaigns (incident) WHERE state <> 'closed';

CREATE TABLE campaign_items (
  campaign_seq       BIGINT NOT NULL REFERENCES campaigns (seq),
  intent_seq         BIGINT NOT NULL,
  ordinal            BIGINT NOT NULL, -- position in the plan, from 1
  issuer             TEXT COLLATE "C" NOT NULL,
  serial             BYTEA NOT NULL,
  wave               BIGINT NOT NULL,
  state              TEXT COLLATE "C" NOT NULL,
  product            TEXT COLLATE "C" NOT NULL,
  account_id         TEXT COLLATE "C" NOT NULL,
  order_id           TEXT COLLATE "C" NOT NULL,
  name               TEXT COLLATE "C" NOT NULL,
  key_hash           BYTEA NOT NULL,
  own                BIGINT NOT NULL,
  critical           BIGINT NOT NULL,
  notify_at          BIGINT NOT NULL,
  window_start       BIGINT NOT NULL,
  window_end         BIGINT NOT NULL,
  revoke_at          BIGINT NOT NULL,
  deadline           BIGINT NOT NULL,
  not_after          BIGINT NOT NULL,
  replacement_issuer TEXT COLLATE "C" NOT NULL,
  replacement_serial BYTEA NOT NULL,
  vulnerable         BIGINT NOT NULL,
  change_id          TEXT COLLATE "C" NOT NULL,
  detail             TEXT COLLATE "C" NOT NULL,
  moved_at           BIGINT NOT NULL,
  PRIMARY KEY (campaign_seq, intent_seq)
);
CREATE UNIQUE INDEX campaign_items_ordinal ON campaign_items (campaign_seq, ordinal);
CREATE INDEX campaign_items_ref ON campaign_items (issuer, serial);
CREATE INDEX campaign_items_key ON campaign_items (key_hash);
CREATE INDEX campaign_items_account ON campaign_items (account_id, name);
CREATE INDEX campaign_items_state ON campaign_items (campaign_seq, state, ordinal);

-- What an item went through; leaf_seq is the evidence, of the item or of the batch it was moved with.
CREATE TABLE campaign_steps (
  campaign_seq BIGINT NOT NULL,
  intent_seq   BIGINT NOT NULL,
  number       BIGINT NOT NULL,
  state        TEXT COLLATE "C" NOT NULL,
  at           BIGINT NOT NULL,
  leaf_seq     BIGINT NOT NULL,
  detail       TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (campaign_seq, intent_seq, number)
);

-- Work by chunks of items, taken by lease and fenced by the generation of the plan (decision 0010).
CREATE TABLE campaign_jobs (
  seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  campaign_seq BIGINT NOT NULL REFERENCES campaigns (seq),
  generation   BIGINT NOT NULL,
  kind         TEXT COLLATE "C" NOT NULL,
  first        BIGINT NOT NULL,
  last         BIGINT NOT NULL,
  due_at       BIGINT NOT NULL,
  done         BIGINT NOT NULL,
  holder       TEXT COLLATE "C" NOT NULL,
  lease_until  BIGINT NOT NULL,
  change_id    TEXT COLLATE "C" NOT NULL,
  tries        BIGINT NOT NULL,
  problem      TEXT COLLATE "C" NOT NULL
);
CREATE INDEX campaign_jobs_due ON campaign_jobs (campaign_seq, generation, due_at) WHERE done = 0;

CREATE TABLE campaign_attempts (
  seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  campaign_seq BIGINT NOT NULL REFERENCES campaigns (seq),
  key_hash     BYTEA NOT NULL,
  account_id   TEXT COLLATE "C" NOT NULL,
  order_id     TEXT COLLATE "C" NOT NULL,
  at           BIGINT NOT NULL
);
CREATE INDEX campaign_attempts_campaign ON campaign_attempts (campaign_seq);

-- Codes for one free reissue each. The codes are not here: a hash is.
CREATE TABLE tickets (
  seq             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id              TEXT COLLATE "C" NOT NULL UNIQUE,
  campaign        TEXT COLLATE "C" NOT NULL,
  replaces_issuer TEXT COLLATE "C" NOT NULL,
  replaces_serial BYTEA NOT NULL,
  order_id        TEXT COLLATE "C" NOT NULL,
  name            TEXT COLLATE "C" NOT NULL,
  account_id      TEXT COLLATE "C" NOT NULL,
  code_hash       BYTEA NOT NULL UNIQUE,
  actor           TEXT COLLATE "C" NOT NULL,
  created_at      BIGINT NOT NULL,
  expires_at      BIGINT NOT NULL,
  claimed_at      BIGINT NOT NULL,
  request         BYTEA NOT NULL,
  redeemed_at     BIGINT NOT NULL,
  used_issuer     TEXT COLLATE "C" NOT NULL,
  used_serial     BYTEA NOT NULL
);
-- One ticket for one item of a campaign.
CREATE UNIQUE INDEX tickets_item ON tickets (campaign, replaces_issuer, replaces_serial) WHERE campaign <> '';
CREATE INDEX tickets_account ON tickets (account_id, seq);
