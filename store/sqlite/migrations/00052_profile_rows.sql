-- +goose Up
-- A row that anybody may add holds nothing that could be read wrongly: the text's digest is in evidence.
ALTER TABLE profile_versions DROP COLUMN digest;
