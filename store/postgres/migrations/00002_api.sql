-- +goose Up
-- What an operator looks for: an authority's newest, and by date, which notices of expiry do too.
CREATE INDEX certificates_issuer ON certificates (issuer, intent_seq);
CREATE INDEX certificates_issued ON certificates (reserved_at);
CREATE INDEX certificates_expiry ON certificates (not_after);

-- Answers to requests with an idempotency key. key_hash is over owner and key, and the body is sealed under the key:
-- the record does not hold the key, so an answer with a secret in it is of no use to whoever reads the record.
CREATE TABLE replies (
  key_hash    BYTEA PRIMARY KEY,
  owner       TEXT COLLATE "C" NOT NULL,
  request     BYTEA NOT NULL,
  holder      TEXT COLLATE "C" NOT NULL,
  status      BIGINT NOT NULL, -- 0 while under way
  body        BYTEA NOT NULL,
  lease_until BIGINT NOT NULL,
  expires_at  BIGINT NOT NULL
);
CREATE INDEX replies_expiry ON replies (expires_at);
