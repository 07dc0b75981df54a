-- +goose Up
-- What looks at endpoints showed: a row from the first to the last look that showed the same. seq orders the rows of a place.
CREATE TABLE looks (
  seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  book        TEXT COLLATE "C" NOT NULL, -- public: looks for strangers; house: all others
  host        TEXT COLLATE "C" NOT NULL,
  address     TEXT COLLATE "C" NOT NULL, -- ADDRESS:PORT
  starttls    TEXT COLLATE "C" NOT NULL,
  first_at    BIGINT NOT NULL,
  last_at     BIGINT NOT NULL,
  looks       BIGINT NOT NULL,
  verdict     TEXT NOT NULL,
  reason      TEXT NOT NULL,
  detail      TEXT NOT NULL,
  fingerprint BYTEA NOT NULL, -- SHA-256 of the certificate served; empty when none was seen
  key_hash    BYTEA NOT NULL,
  issued      BIGINT NOT NULL,
  not_after   BIGINT NOT NULL,
  findings    TEXT NOT NULL, -- JSON
  changed     TEXT NOT NULL  -- JSON: in words, against the row before
);
CREATE INDEX looks_place ON looks (book, host, address, starttls, seq);
CREATE INDEX looks_key ON looks (book, key_hash, last_at);
CREATE INDEX looks_age ON looks (book, last_at);
-- The last look of a campaign at the house's own endpoints.
CREATE TABLE estate_looks (
  campaign TEXT NOT NULL PRIMARY KEY,
  at       BIGINT NOT NULL,
  body     BYTEA NOT NULL -- JSON
);
