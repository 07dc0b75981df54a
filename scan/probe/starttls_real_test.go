package probe_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/internal/heldport"
)

// servers is a folder that other users may enter, for servers that give up root, with chain.pem and key.pem.
func servers(t *testing.T) (dir string) {
	t.Helper()
	from := relatives().files(t)
	dir, err := os.MkdirTemp("/tmp", "starttls") // the path of a unix socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, name := range []string{"chain.pem", "key.pem"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err == nil {
			err = os.Chmod(filepath.Join(dir, name), 0o644) // a key of this test alone
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// looks wants a genuine server to be seen through its STARTTLS, with its chain.
func looks(t *testing.T, at netip.AddrPort, protocol bulkhead.STARTTLS) {
	t.Helper()
	ep := local(at)
	ep.Host, ep.STARTTLS = "localhost", protocol
	look := prober(t, nil).Look(context.Background(), ep)
	if look.Reason != bulkhead.ReasonNotNegotiated && look.Reason != bulkhead.ReasonTLS13Only || look.Chain == nil || len(look.Chain.DER) != 2 || look.Chain.Missing != "" {
		t.Errorf("%s: %s (%s: %s), %s", protocol, look.Verdict, look.Reason, look.Detail, summary(look.Chain))
	}
}

// TestVsftpd looks at FTP (RFC 4217).
func TestVsftpd(t *testing.T) {
	dir, at := servers(t), heldport.For(t)
	conf := write(t, filepath.Join(dir, "vsftpd.conf"), fmt.Sprintf("listen=YES\nlisten_address=127.0.0.1\nlisten_port=%d\nbackground=NO\nrun_as_launching_user=YES\nanonymous_enable=YES\nseccomp_sandbox=NO\n"+
		"ssl_enable=YES\nallow_anon_ssl=YES\nrsa_cert_file=%[2]s/chain.pem\nrsa_private_key_file=%[2]s/key.pem\n", at.Port(), dir))
	run(t, []netip.AddrPort{at}, "vsftpd", conf)
	looks(t, at, bulkhead.STARTTLSFTP)
}

// TestSlapd looks at LDAP (RFC 4511 section 4.14).
func TestSlapd(t *testing.T) {
	dir, at := servers(t), heldport.For(t)
	conf := write(t, filepath.Join(dir, "slapd.conf"), fmt.Sprintf("TLSCertificateFile %[1]s/chain.pem\nTLSCertificateKeyFile %[1]s/key.pem\npidfile %[1]s/slapd.pid\n", dir))
	run(t, []netip.AddrPort{at}, "slapd", "-f", conf, "-h", "ldap://"+at.String(), "-d", "0")
	looks(t, at, bulkhead.STARTTLSLDAP)
}

// TestProsody looks at XMPP (RFC 6120 section 5).
func TestProsody(t *testing.T) {
	dir, at := servers(t), heldport.For(t)
	conf := write(t, filepath.Join(dir, "prosody.cfg.lua"), fmt.Sprintf(`
run_as_root = true
daemonize = false
pidfile = %[1]q .. "/prosody.pid"
data_path = %[1]q .. "/data"
interfaces = { "127.0.0.1" }
c2s_ports = { %[2]d }
c2s_direct_tls_ports = { }
s2s_ports = { }
modules_enabled = { "tls"; "saslauth" }
modules_disabled = { "s2s"; "admin_shell"; "http" }
authentication = "anonymous"
log = { warn = "*console" }
VirtualHost "localhost"
  ssl = { key = %[1]q .. "/key.pem"; certificate = %[1]q .. "/chain.pem" }
`, dir, at.Port()))
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, []netip.AddrPort{at}, "prosody", "--config", conf, "-F")
	looks(t, at, bulkhead.STARTTLSXMPP)
}

// TestDovecot looks at IMAP and POP3 (RFC 9051, 2595).
func TestDovecot(t *testing.T) {
	dir, imap, pop := servers(t), heldport.For(t), heldport.For(t)
	who := "nobody" // its login processes refuse to be root
	if os.Getuid() != 0 {
		u, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		who = u.Username
	}
	conf := write(t, filepath.Join(dir, "dovecot.conf"), fmt.Sprintf(`
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = /dev/stderr
protocols = imap pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <%[1]s/chain.pem
ssl_key = <%[1]s/key.pem
default_internal_user = %[2]s
default_internal_group = nogroup
default_login_user = %[2]s
passdb {
  driver = static
  args = password=x
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}
service imap-login {
  chroot =
  inet_listener imap {
    port = %[3]d
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  chroot =
  inet_listener pop3 {
    port = %[4]d
  }
  inet_listener pop3s {
    port = 0
  }
}
service anvil {
  chroot =
}
`, dir, who, imap.Port(), pop.Port()))
	run(t, []netip.AddrPort{imap, pop}, "dovecot", "-F", "-c", conf)
	looks(t, imap, bulkhead.STARTTLSIMAP)
	looks(t, pop, bulkhead.STARTTLSPOP3)
}

// TestPostfix looks at SMTP (RFC 3207).
func TestPostfix(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("postfix begins as root: run this test as root")
	}
	dir, at := servers(t), heldport.For(t)
	conf := filepath.Join(dir, "pf")
	write(t, filepath.Join(conf, "main.cf"), fmt.Sprintf("compatibility_level = 3.6\nqueue_directory = %[1]s/q\ndata_directory = %[1]s/d\nmail_owner = postfix\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n"+
		"myhostname = localhost\nmynetworks = 127.0.0.0/8\nalias_maps =\nalias_database =\nsmtpd_tls_security_level = may\nsmtpd_tls_cert_file = %[2]s/chain.pem\nsmtpd_tls_key_file = %[2]s/key.pem\nsmtpd_relay_restrictions = reject\n", conf, dir))
	write(t, filepath.Join(conf, "master.cf"), fmt.Sprintf("%s inet n - n - - smtpd\ntlsmgr unix - - n 1000? 1 tlsmgr\nrewrite unix - - n - - trivial-rewrite\nanvil unix - - n - 1 anvil\nproxymap unix - - n - - proxymap\n", at))
	postfix, err := user.Lookup("postfix")
	if err != nil {
		t.Fatalf("%v: run scripts/test-tools.sh", err)
	}
	var uid, gid int
	if _, err := fmt.Sscan(postfix.Uid+" "+postfix.Gid, &uid, &gid); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"d", "q", "q/pid", "q/private", "q/public", "q/active", "q/incoming", "q/deferred", "q/bounce", "q/corrupt", "q/defer", "q/flush", "q/hold", "q/saved", "q/trace"} {
		if err := os.MkdirAll(filepath.Join(conf, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if d != "q" && d != "q/pid" {
			if err := os.Chown(filepath.Join(conf, d), uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, []netip.AddrPort{at}, "/usr/lib/postfix/sbin/master", "-c", conf, "-d")
	looks(t, at, bulkhead.STARTTLSSMTP)
}

// TestPostgreSQL looks at a genuine server through its SSLRequest.
func TestPostgreSQL(t *testing.T) {
	dir, at := servers(t), heldport.For(t)
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		t.Fatal("no PostgreSQL: run scripts/test-tools.sh")
	}
	bin := found[len(found)-1]
	as := func(program string, args ...string) []string {
		return append([]string{filepath.Join(bin, program)}, args...)
	}
	if os.Getuid() == 0 { // it refuses to be root
		as = func(program string, args ...string) []string {
			return append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", filepath.Join(bin, program)}, args...)
		}
		if out, err := exec.Command("chown", "-R", "nobody", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "key.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	data := filepath.Join(dir, "data")
	init := as("initdb", "-D", data, "--no-sync", "--no-locale", "-A", "trust")
	if out, err := exec.CommandContext(ctx, init[0], init[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	cmd := as("postgres", "-D", data, "-h", "127.0.0.1", "-p", fmt.Sprint(at.Port()), "-k", dir, "-c", "fsync=off", "-c", "ssl=on", "-c", "ssl_cert_file="+dir+"/chain.pem", "-c", "ssl_key_file="+dir+"/key.pem")
	if strings.HasPrefix(cmd[0], "/") {
		run(t, []netip.AddrPort{at}, cmd[0], cmd[1:]...)
	} else {
		run(t, []netip.AddrPort{at}, "/usr/bin/"+cmd[0], cmd[1:]...)
	}
	looks(t, at, bulkhead.STARTTLSPostgres)
}
