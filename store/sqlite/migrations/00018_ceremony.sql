-- +goose Up
-- A prepared CRL may wait for a change: it goes public with it and not before.
ALTER TABLE prepared ADD COLUMN change_id TEXT NOT NULL DEFAULT '';

-- Ceremonies and rehearsals as they were imported, transcripts byte for byte.
CREATE TABLE ceremonies (
  digest      BLOB PRIMARY KEY,
  previous    BLOB NOT NULL,
  root        BLOB NOT NULL,
  title       TEXT NOT NULL,
  rehearsal   INTEGER NOT NULL,
  change_id   TEXT NOT NULL,
  began_at    INTEGER NOT NULL,
  finished_at INTEGER NOT NULL,
  imported_at INTEGER NOT NULL,
  actor       TEXT NOT NULL,
  signed      BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Certificates for an authority's key under another root; chain is JSON.
CREATE TABLE standbys (
  authority     TEXT NOT NULL,
  digest        BLOB NOT NULL,
  under         TEXT NOT NULL,
  certificate   BLOB NOT NULL,
  chain         TEXT NOT NULL,
  not_after     INTEGER NOT NULL,
  added_at      INTEGER NOT NULL,
  offered_until INTEGER NOT NULL,
  PRIMARY KEY (authority, digest)
) STRICT, WITHOUT ROWID;
