-- +goose Up
CREATE INDEX changes_epoch ON changes (epoch) WHERE epoch > 0;
