#!/usr/bin/env bash
# Installs the foreign programs that the tests hold the product against. Does nothing where they are there.
set -euo pipefail
PATH="$PATH:/usr/sbin" # servers of Debian are there
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need openssl openssl
need curl curl
need certbot certbot
need lego lego
need ocsptool gnutls-bin
need gnutls-cli gnutls-bin
need strace strace
need softhsm2-util softhsm2
need pkcs11-tool opensc
need gcc gcc
need varnishd varnish
need nginx nginx
need promtool prometheus
need sslscan sslscan
need vsftpd vsftpd
need slapd slapd
need prosody prosody
need dovecot dovecot-core
need postfix postfix
ls /usr/lib/dovecot/pop3-login >/dev/null 2>&1 || missing+=(dovecot-pop3d)
ls /usr/lib/dovecot/imap-login >/dev/null 2>&1 || missing+=(dovecot-imapd)
need testssl testssl.sh
need chromium chromium
need pdftotext poppler-utils
ls /usr/share/fonts/opentype/ipafont-gothic/ipagp.ttf >/dev/null 2>&1 || ls /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc >/dev/null 2>&1 || missing+=(fonts-ipafont-gothic)
ls /usr/lib/nginx/modules/ngx_http_cache_purge_module.so >/dev/null 2>&1 || missing+=(libnginx-mod-http-cache-purge)
ls /usr/lib/nginx/modules/ngx_mail_module.so >/dev/null 2>&1 || missing+=(libnginx-mod-mail)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || missing+=(postgresql)
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "install first: ${missing[*]}" >&2
  exit 1
fi
run=()
if [ "$(id -u)" -ne 0 ]; then run=(sudo); fi
"${run[@]}" apt-get update -q
DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
