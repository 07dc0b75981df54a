-- +goose Up
-- The signature of a person at a registration partner under a second approval; rows from before have none and count no more.
ALTER TABLE second_approvals ADD COLUMN signature BLOB NOT NULL DEFAULT x'';
