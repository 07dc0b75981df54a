-- +goose Up
-- What an operator looks for: an authority's newest, and by date, which notices of expiry do too.
CREATE INDEX certificates_issuer ON certificates (issuer, intent_seq);
CREATE INDEX certificates_issued ON certificates (reserved_at);
CREATE INDEX certificates_expiry ON certificates (not_after);

-- Answers to requests with an idempotency key. key_hash is over owner and key, and the body is sealed under the key:
-- the record does not hold the key, so an answer with a secret in it is of no use to whoever reads the record.
CREATE TABLE replies (
  key_hash    BLOB PRIMARY KEY,
  owner       TEXT NOT NULL,
  request     BLOB NOT NULL,
  holder      TEXT NOT NULL,
  status      INTEGER NOT NULL, -- 0 while under way
  body        BLOB NOT NULL,
  lease_until INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX replies_expiry ON replies (expires_at);
