#!/usr/bin/env bash
# Makes what the import of OpenBao is tested with, with a genuine OpenBao: make.sh BAO OUT. It needs curl, and bao built
# (github.com/openbao/openbao; what is here was made by v2.5.5). OUT gets ca.pem, one JSON for each certificate as `bao read` prints it, list.json
# as `bao list` prints it, and crl.pem. Four certificates, one of them revoked.
set -euo pipefail
bao=$1 out=$2
mkdir -p "$out"
export BAO_ADDR=http://127.0.0.1:${BAO_PORT:-18200} BAO_TOKEN=root
home=$(mktemp -d)
export HOME=$home
"$bao" server -dev -dev-root-token-id=root -dev-listen-address="127.0.0.1:${BAO_PORT:-18200}" >"$home/log" 2>&1 &
server=$!
trap 'kill -INT $server 2>/dev/null || true; wait $server || true; rm -rf "$home"' EXIT
for _ in $(seq 300); do "$bao" status >/dev/null 2>&1 && break; sleep 0.2; done
"$bao" secrets enable -max-lease-ttl=87600h pki >/dev/null
"$bao" write -field=certificate pki/root/generate/internal common_name="Bao Root" key_type=ec key_bits=256 ttl=87600h > "$out/ca.pem"
"$bao" write pki/roles/web allowed_domains=example.test allow_subdomains=true key_type=ec key_bits=256 ttl=8760h max_ttl=8760h >/dev/null
for i in 0 1 2 3; do
  serial=$("$bao" write -field=serial_number pki/issue/web common_name="bao$i.example.test")
  if [ $i = 1 ]; then "$bao" write pki/revoke serial_number="$serial" >/dev/null; fi
  "$bao" read -format=json "pki/cert/$serial" > "$out/cert$i.json"
done
"$bao" list -format=json pki/certs > "$out/list.json"
curl -sf "$BAO_ADDR/v1/pki/crl/pem" > "$out/crl.pem"
