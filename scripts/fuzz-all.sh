#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time each and says what it ran. A package that does not build, and a
# target in the source that is not listed, ends it at once: nothing is left out silently. "list" in place of a time only
# says which there are.
set -euo pipefail
time=${1:-1h}
cd "$(dirname "$0")/.."
targets=()
for pkg in $(go list ./...); do
  listed=$(go test -list '^Fuzz' "$pkg")
  for target in $(grep '^Fuzz' <<<"$listed" || true); do
    targets+=("$pkg $target")
  done
done
written=$(git ls-files '*_test.go' | grep -v '^tools/' | xargs grep -h '^func Fuzz' | wc -l)
if [ "${#targets[@]}" -ne "$written" ]; then
  echo "fuzz-all: ${#targets[@]} targets are listed and $written are in the source" >&2
  exit 1
fi
if [ "$time" = list ]; then
  printf '%s\n' "${targets[@]}"
  exit
fi
for x in "${targets[@]}"; do
  read -r pkg target <<<"$x"
  echo "fuzz $pkg $target for $time"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x "$pkg" # shortening by the minute leaves no time to fuzz
done
echo "fuzz-all: ran ${#targets[@]} targets for $time each"
