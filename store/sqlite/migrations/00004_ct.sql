-- +goose Up
-- What was signed for the logs, kept when the certificate itself takes its place in certificate_ders.
CREATE TABLE precertificates (
  intent_seq INTEGER PRIMARY KEY REFERENCES certificates (intent_seq),
  der        BLOB NOT NULL
) STRICT;
