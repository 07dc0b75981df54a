package probe_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"bulkhead"
	"bulkhead/internal/heldport"
)

// wants is what a look at a genuine server must say.
func wants(t *testing.T, name string, ep bulkhead.Endpoint, reason bulkhead.LookReason) bulkhead.Look {
	t.Helper()
	p := prober(t, nil)
	look := p.Verdict(context.Background(), ep)
	if look.Reason != reason || look.Verdict != bulkhead.LookReasons[reason] {
		t.Errorf("%s: %s (%s: %s), want %s\n%+v", name, look.Verdict, look.Reason, look.Detail, reason, look.Versions)
	}
	look = p.Look(context.Background(), ep)
	if look.Reason != reason || look.Chain == nil || len(look.Chain.DER) != 2 || look.Chain.Missing != "" || len(look.Chain.Superfluous) != 0 {
		t.Errorf("%s: whole look: %s (%s), %s", name, look.Reason, look.Detail, summary(look.Chain))
	}
	return look
}

// TestOpenSSL looks at s_server of the installed OpenSSL, which has no heartbeat any more.
func TestOpenSSL(t *testing.T) {
	dir := relatives().files(t)
	for _, c := range []struct {
		name   string
		args   []string
		reason bulkhead.LookReason
		spoken uint16 // the lowest version
	}{
		{"default", nil, bulkhead.ReasonNotNegotiated, 0x0303},
		{"old versions", []string{"-cipher", "ALL:@SECLEVEL=0"}, bulkhead.ReasonNotNegotiated, 0x0301},
		{"TLS 1.0 alone", []string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}, bulkhead.ReasonNotNegotiated, 0x0301},
		{"TLS 1.3 alone", []string{"-tls1_3"}, bulkhead.ReasonTLS13Only, 0x0304},
		{"client certificate", []string{"-Verify", "1"}, bulkhead.ReasonNotNegotiated, 0x0303},
	} {
		at := heldport.For(t)
		run(t, []netip.AddrPort{at}, "openssl", append([]string{"s_server", "-accept", at.String(), "-cert", filepath.Join(dir, "chain.pem"),
			"-cert_chain", filepath.Join(dir, "middle.pem"), "-key", filepath.Join(dir, "key.pem"), "-quiet"}, c.args...)...)
		look := wants(t, "s_server: "+c.name, local(at), c.reason)
		for _, v := range look.Versions {
			want := v.Version == c.spoken || v.Version > c.spoken && c.name != "TLS 1.0 alone"
			if (v.Outcome == bulkhead.VersionSpoken) != want {
				t.Errorf("s_server: %s: %s is %s", c.name, v.Name, v.Outcome)
			}
		}
	}
}

// TestGnuTLS looks at gnutls-serv, the one current server with heartbeat. It refuses any before the handshake is complete.
func TestGnuTLS(t *testing.T) {
	dir := relatives().files(t)
	files := []string{"--x509certfile", filepath.Join(dir, "chain.pem"), "--x509keyfile", filepath.Join(dir, "key.pem"), "--echo", "-q"}
	for _, c := range []struct {
		name   string
		args   []string
		reason bulkhead.LookReason
	}{
		{"heartbeat", []string{"--heartbeat"}, bulkhead.ReasonAlerted},
		{"heartbeat, TLS 1.0 and ARCFOUR", []string{"--heartbeat", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.0:-CIPHER-ALL:+ARCFOUR-128:+AES-128-CBC:+SHA1"}, bulkhead.ReasonAlerted},
		{"heartbeat, SSL 3.0 too", []string{"--heartbeat", "--priority", "NORMAL:+VERS-SSL3.0"}, bulkhead.ReasonAlerted},
		{"none", nil, bulkhead.ReasonNotNegotiated},
	} {
		at := heldport.For(t)
		run(t, []netip.AddrPort{at}, "gnutls-serv", append(append([]string{"--port", fmt.Sprint(at.Port())}, files...), c.args...)...)
		wants(t, "gnutls-serv: "+c.name, local(at), c.reason)
	}
}

const nginxConfig = `
%[1]sdaemon off; master_process off; pid %[2]s/pid; error_log %[2]s/error.log; worker_rlimit_nofile 1024;
events { worker_connections 256; }
http {
  access_log off; client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
  ssl_certificate %[2]s/chain.pem; ssl_certificate_key %[2]s/key.pem;
  server { listen %[3]s ssl; ssl_protocols TLSv1.2 TLSv1.3; }
  server { listen %[4]s ssl; ssl_protocols TLSv1 TLSv1.1 TLSv1.2; ssl_ciphers ALL:@SECLEVEL=0; ssl_verify_client optional_no_ca; }
}
mail {
  auth_http 127.0.0.1:1/; server_name mail.test; ssl_certificate %[2]s/chain.pem; ssl_certificate_key %[2]s/key.pem; starttls on;
  server { listen %[5]s; protocol smtp; smtp_auth none; }
  server { listen %[6]s; protocol imap; }
  server { listen %[7]s; protocol pop3; }
}
`

// TestNginx looks at nginx over HTTPS, and through STARTTLS over SMTP, IMAP and POP3.
func TestNginx(t *testing.T) {
	dir := relatives().files(t)
	at := make([]netip.AddrPort, 5)
	for i := range at {
		at[i] = heldport.For(t)
	}
	load := ""
	if _, err := os.Stat("/usr/lib/nginx/modules/ngx_mail_module.so"); err == nil {
		load = "load_module /usr/lib/nginx/modules/ngx_mail_module.so;\n"
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, load, dir, at[0], at[1], at[2], at[3], at[4])
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, at, "nginx", "-c", conf, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	for i, p := range []bulkhead.STARTTLS{"", "", bulkhead.STARTTLSSMTP, bulkhead.STARTTLSIMAP, bulkhead.STARTTLSPOP3} {
		ep := local(at[i])
		ep.STARTTLS = p
		wants(t, fmt.Sprintf("nginx %d %s", i, p), ep, bulkhead.ReasonNotNegotiated)
	}
}

// TestGo looks at servers of the standard library.
func TestGo(t *testing.T) {
	f := relatives()
	for _, c := range []struct {
		low, high uint16
		auth      tls.ClientAuthType
		reason    bulkhead.LookReason
	}{
		{tls.VersionTLS10, tls.VersionTLS13, tls.NoClientCert, bulkhead.ReasonNotNegotiated},
		{tls.VersionTLS12, tls.VersionTLS12, tls.RequireAnyClientCert, bulkhead.ReasonNotNegotiated},
		{tls.VersionTLS10, tls.VersionTLS10, tls.NoClientCert, bulkhead.ReasonNotNegotiated},
		{tls.VersionTLS13, tls.VersionTLS13, tls.RequireAnyClientCert, bulkhead.ReasonTLS13Only},
	} {
		ep := serveGo(t, &tls.Config{Certificates: []tls.Certificate{f.certificate(f.leaf, f.middle)}, MinVersion: c.low, MaxVersion: c.high, ClientAuth: c.auth})
		look := wants(t, fmt.Sprintf("Go %#x-%#x", c.low, c.high), ep, c.reason)
		if len(look.Staple) == 0 || look.Chain.Key.Algorithm != "RSA" || look.Chain.Key.Weak != "" {
			t.Errorf("Go %#x-%#x: %d bytes of staple, key %+v", c.low, c.high, len(look.Staple), look.Chain.Key)
		}
	}
}
