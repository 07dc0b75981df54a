#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time each and says what it ran.
set -euo pipefail
time=${1:-1h}
for pkg in $(go list ./...); do
  for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
    echo "fuzz $pkg $target for $time"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
  done
done
