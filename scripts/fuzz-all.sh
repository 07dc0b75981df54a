#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time each and says what it ran.
set -euo pipefail
time=${1:-1h}
go list ./... | while read -r pkg; do
  go test -list '^Fuzz' "$pkg" | grep '^Fuzz' | while read -r target; do
    echo "fuzz $pkg $target for $time"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
  done
done
