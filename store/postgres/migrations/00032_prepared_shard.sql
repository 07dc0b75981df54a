-- +goose Up
-- CRLs of an authority whose key is to be destroyed are signed in advance for each of its shards.
ALTER TABLE prepared ADD COLUMN shard BIGINT NOT NULL DEFAULT 0;
