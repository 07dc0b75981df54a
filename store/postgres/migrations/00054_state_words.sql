-- +goose Up
-- The record has one schema number whatever its engine. SQLite's indexes changed here; ours need not.
SELECT 1;
