-- +goose Up
-- A prepared CRL may wait for a change: it goes public with it and not before.
ALTER TABLE prepared ADD COLUMN change_id TEXT COLLATE "C" NOT NULL DEFAULT '';

-- Ceremonies and rehearsals as they were imported, transcripts byte for byte.
CREATE TABLE ceremonies (
  digest      BYTEA PRIMARY KEY,
  previous    BYTEA NOT NULL,
  root        BYTEA NOT NULL,
  title       TEXT COLLATE "C" NOT NULL,
  rehearsal   BIGINT NOT NULL,
  change_id   TEXT COLLATE "C" NOT NULL,
  began_at    BIGINT NOT NULL,
  finished_at BIGINT NOT NULL,
  imported_at BIGINT NOT NULL,
  actor       TEXT COLLATE "C" NOT NULL,
  signed      BYTEA NOT NULL
);

-- Certificates for an authority's key under another root; chain is JSON.
CREATE TABLE standbys (
  authority     TEXT COLLATE "C" NOT NULL,
  digest        BYTEA NOT NULL,
  under         TEXT COLLATE "C" NOT NULL,
  certificate   BYTEA NOT NULL,
  chain         TEXT NOT NULL,
  not_after     BIGINT NOT NULL,
  added_at      BIGINT NOT NULL,
  offered_until BIGINT NOT NULL,
  PRIMARY KEY (authority, digest)
);
