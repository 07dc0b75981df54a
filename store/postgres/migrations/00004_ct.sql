-- +goose Up
-- What was signed for the logs, kept when the certificate itself takes its place in certificate_ders.
CREATE TABLE precertificates (
  intent_seq BIGINT PRIMARY KEY REFERENCES certificates (intent_seq),
  der        BYTEA NOT NULL
);
