-- +goose Up
-- The same states in words that SQLite compares one by one: for a list of three it makes a table of the words, for each row that is written.
DROP INDEX orders_state;
CREATE INDEX orders_state ON orders (state, seq) WHERE state = 'pending' OR state = 'ready' OR state = 'processing';
DROP INDEX authorizations_over;
CREATE INDEX authorizations_over ON authorizations (expires_at) WHERE state = 'pending' OR state = 'invalid' OR state = 'expired';
