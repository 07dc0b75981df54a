-- +goose Up
-- Who took an alarm, and why.
ALTER TABLE alarms ADD COLUMN acked_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE alarms ADD COLUMN acked_by TEXT NOT NULL DEFAULT '';
ALTER TABLE alarms ADD COLUMN ack_reason TEXT NOT NULL DEFAULT '';

-- The way of an alarm to a receiver of the configuration.
CREATE TABLE alarm_deliveries (
  alarm    INTEGER NOT NULL REFERENCES alarms (seq),
  receiver TEXT NOT NULL,
  state    TEXT NOT NULL CHECK (state IN ('pending', 'done', 'failed')),
  attempts INTEGER NOT NULL,
  next_at  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  error    TEXT NOT NULL,
  PRIMARY KEY (alarm, receiver)
) STRICT, WITHOUT ROWID;

-- Which change spoke of a certificate.
CREATE INDEX change_items_certificate ON change_items (issuer, serial);
