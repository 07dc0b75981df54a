-- +goose Up
-- No statement looks for a look at CAA by its name, and none for orders that are at their end by their state: each row of an index is
-- paid for by every order.
DROP INDEX caa_checks_name;
DROP INDEX orders_state;
CREATE INDEX orders_state ON orders (state, seq) WHERE state IN ('pending', 'ready', 'processing');
