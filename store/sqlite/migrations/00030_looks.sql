-- +goose Up
-- What looks at endpoints showed: a row from the first to the last look that showed the same. seq orders the rows of a place.
CREATE TABLE looks (
  seq         INTEGER PRIMARY KEY,
  book        TEXT NOT NULL, -- public: looks for strangers; house: all others
  host        TEXT NOT NULL,
  address     TEXT NOT NULL, -- ADDRESS:PORT
  starttls    TEXT NOT NULL,
  first_at    INTEGER NOT NULL,
  last_at     INTEGER NOT NULL,
  looks       INTEGER NOT NULL,
  verdict     TEXT NOT NULL,
  reason      TEXT NOT NULL,
  detail      TEXT NOT NULL,
  fingerprint BLOB NOT NULL, -- SHA-256 of the certificate served; empty when none was seen
  key_hash    BLOB NOT NULL,
  issued      INTEGER NOT NULL,
  not_after   INTEGER NOT NULL,
  findings    TEXT NOT NULL, -- JSON
  changed     TEXT NOT NULL  -- JSON: in words, against the row before
) STRICT;
CREATE INDEX looks_place ON looks (book, host, address, starttls, seq);
CREATE INDEX looks_key ON looks (book, key_hash, last_at);
CREATE INDEX looks_age ON looks (book, last_at);
-- The last look of a campaign at the house's own endpoints.
CREATE TABLE estate_looks (
  campaign TEXT NOT NULL PRIMARY KEY,
  at       INTEGER NOT NULL,
  body     BLOB NOT NULL -- JSON
) STRICT, WITHOUT ROWID;
