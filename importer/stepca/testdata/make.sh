#!/usr/bin/env bash
# Makes what importer/stepca reads in its tests, with a genuine step-ca: make.sh STEP-CA OUT. It needs openssl and lego.
# OUT gets ca.pem (the issuing authority, then its root) and db/ (a badger database: four certificates, one of them revoked).
# postgresql/ and mariadb/ were made with STEP_DB={"type":"postgresql","dataSource":"postgresql://…","database":"step"} (mysql alike)
# and then: pg_dump --data-only -t x509_certs -t revoked_x509_certs step; mariadb-dump --hex-blob step x509_certs revoked_x509_certs.
set -euo pipefail
step=$1 out=$2
mkdir -p "$out"
work=$(mktemp -d)
server=
finish() { if [ -n "$server" ]; then kill -INT "$server" 2>/dev/null || true; wait "$server" || true; fi; rm -rf "$work"; }
trap finish EXIT
port=${STEP_PORT:-19443} http=${STEP_HTTP_PORT:-19080}
cat > "$work/x.cnf" <<EOF
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[sub]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
EOF
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
key "$work/root.key"; key "$work/sub.key"
openssl req -x509 -config "$work/x.cnf" -extensions root -key "$work/root.key" -subj "/CN=Step Root" -days 7300 -out "$work/root.pem"
openssl req -new -config "$work/x.cnf" -key "$work/sub.key" -subj "/CN=Step Issuing" -out "$work/sub.csr"
openssl x509 -req -in "$work/sub.csr" -CA "$work/root.pem" -CAkey "$work/root.key" -set_serial 0x1001 -days 7300 -extfile "$work/x.cnf" -extensions sub -out "$work/sub.pem" 2>/dev/null
cat > "$work/ca.json" <<EOF
{"root":"$work/root.pem","crt":"$work/sub.pem","key":"$work/sub.key","address":"127.0.0.1:$port","dnsNames":["localhost"],
"logger":{"format":"text"},"db":${STEP_DB:-{\"type\":\"badgerv2\",\"dataSource\":\"$out/db\"\}},
"crl":{"enabled":true},
"authority":{"provisioners":[{"type":"ACME","name":"acme","claims":{"defaultTLSCertDuration":"24h"}}]}}
EOF
STEPPATH="$work" "$step" --insecure --acme-http-port "$http" "$work/ca.json" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 300); do curl -sf --cacert "$work/root.pem" "https://localhost:$port/health" >/dev/null && break; sleep 0.2; done
for i in 1 2 3 4; do
  LEGO_CA_CERTIFICATES="$work/root.pem" lego --server "https://localhost:$port/acme/acme/directory" --path "$work/lego$i" --accept-tos --email "a@example.test" --key-type ec256 \
    --domains localhost --http --http.port ":$http" run >"$work/lego.log" 2>&1 || { cat "$work/lego.log" "$work/log" >&2; exit 1; }
done
LEGO_CA_CERTIFICATES="$work/root.pem" lego --server "https://localhost:$port/acme/acme/directory" --path "$work/lego2" --accept-tos --email "a@example.test" --domains localhost revoke --reason 4 >"$work/lego.log" 2>&1 || { cat "$work/lego.log" >&2; exit 1; }
kill -INT "$server"; wait "$server" || true; server=
cat "$work/sub.pem" "$work/root.pem" > "$out/ca.pem"
