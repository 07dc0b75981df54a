-- +goose Up
-- The same rows in words that SQLite compares one by one: for a list it makes a table of the words, for each row that is written.
DROP INDEX campaign_items_going;
CREATE INDEX campaign_items_going ON campaign_items (campaign_seq, state, ordinal) WHERE state <> 'planned' AND state <> 'old-revoked' AND state <> 'expired';
