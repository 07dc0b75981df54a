-- +goose Up
-- Until when whoever plans a change says that he is at it; 0 for changes of earlier versions.
ALTER TABLE changes ADD COLUMN held_until INTEGER NOT NULL DEFAULT 0;
