-- +goose Up
-- The same states in words that SQLite compares one by one: for a list it makes a table of the words, for each certificate that is
-- written. No row changes; this is how SQLite has a CHECK replaced (https://sqlite.org/lang_altertable.html, section 7). RESET has
-- this connection read the schema again; that the index is made anew tells every other.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (state IN (''reserved'', ''issued'', ''revoked'', ''abandoned''))',
  'CHECK (state = ''issued'' OR state = ''reserved'' OR state = ''revoked'' OR state = ''abandoned'')') WHERE type = 'table' AND name = 'certificates';
PRAGMA writable_schema = RESET;
DROP INDEX certificates_open;
CREATE INDEX certificates_open ON certificates (reserved_at) WHERE state = 'reserved';
