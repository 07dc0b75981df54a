package caches

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/heldport"
)

// program finds a server of Debian, which are not on everybody's path.
func program(t testing.TB, name, pkg string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		if path := filepath.Join(dir, name); exec.Command(path, "-V").Run() == nil {
			return path
		}
	}
	t.Fatalf("%s is not here (package %s): scripts/test-tools.sh installs it", name, pkg)
	return ""
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a server until the test ends and waits until it listens.
func start(t testing.TB, addr, path string, args ...string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { stop(); <-done })
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("%s ended: %v\n%s", path, err, out)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen\n%s", path, out)
		}
	}
}

// What a node of the tests does with PURGE.
const (
	purges  = `return (purge);`
	refuses = `return (synth(405, "Not allowed"));`
	ignores = `return (synth(200, "Purged"));`
)

// varnish starts a node that keeps what it has for an hour whatever the origin says, as the load balancer of 2016 did for eight.
func varnish(t testing.TB, backend, purge string) string {
	t.Helper()
	dir := t.TempDir()
	b := must(url.Parse(backend))(t)
	vcl := fmt.Sprintf(`vcl 4.1;
backend default { .host = %q; .port = %q; }
acl house { "127.0.0.1"; }
sub vcl_recv {
  if (req.method == "BAN") {
    if (!client.ip ~ house) { return (synth(405)); }
    ban("req.url ~ " + req.http.X-Ban-Url);
    return (synth(200, "Banned"));
  }
  if (req.method == "PURGE") { %s }
}
sub vcl_backend_response { if (beresp.http.Cache-Control !~ "no-store") { set beresp.ttl = 1h; set beresp.grace = 0s; } }
`, b.Hostname(), b.Port(), purge)
	file := filepath.Join(dir, "node.vcl")
	if err := os.WriteFile(file, []byte(vcl), 0o644); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", int(heldport.For(t).Port()))
	start(t, addr, program(t, "varnishd", "varnish"), "-F", "-n", filepath.Join(dir, "n"), "-a", addr, "-f", file, "-s", "malloc,16m", "-j", "none", "-T", "none")
	return "http://" + addr
}

const purgeModule = "/usr/lib/nginx/modules/ngx_http_cache_purge_module.so"

// nginx starts a cache that keeps answers for an hour and purges as libnginx-mod-http-cache-purge does.
func nginx(t testing.TB, backend string) string {
	t.Helper()
	if _, err := os.Stat(purgeModule); err != nil {
		t.Fatalf("%v (package libnginx-mod-http-cache-purge): scripts/test-tools.sh installs it", err)
	}
	dir := t.TempDir()
	addr := fmt.Sprintf("127.0.0.1:%d", int(heldport.For(t).Port()))
	conf := fmt.Sprintf(`load_module %s;
daemon off; master_process off; pid %[2]s/pid; error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
  proxy_cache_path %[2]s/cache keys_zone=status:1m;
  server {
    listen %[3]s;
    merge_slashes off;
    location / {
      proxy_pass %[4]s;
      proxy_set_header Host $host;
      proxy_cache status;
      proxy_cache_key $host$request_uri;
      proxy_ignore_headers Cache-Control Expires;
      proxy_cache_valid 200 1h;
      if ($request_method = PURGE) { return 418; }
      error_page 418 = @purge;
    }
    location @purge { # a PURGE directive in the cached location crashes the worker of Debian 12
      allow 127.0.0.1; deny all;
      proxy_cache_purge status $host$request_uri;
    }
  }
}
`, purgeModule, dir, addr, backend)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, addr, program(t, "nginx", "nginx"), "-p", dir, "-e", "stderr", "-c", file)
	return "http://" + addr
}

func verdicts(v Verification) string {
	var out []string
	for _, n := range v.Nodes {
		out = append(out, n.Tier+" "+n.Verdict)
	}
	return strings.Join(out, ", ")
}

// TestRealTiers is the day with real caches: two rows of Varnish, one node that refuses purges and one that says 200
// and does nothing, and an nginx in front.
func TestRealTiers(t *testing.T) {
	o := newOrigin(t)
	o.publish(time.Hour, false, 1, 2)
	o.refresh()
	nodes := make([]string, 3)
	var g sync.WaitGroup
	for i, how := range []string{purges, refuses, ignores} {
		g.Go(func() { nodes[i] = varnish(t, o.url, how) })
	}
	g.Wait()
	if t.Failed() {
		return
	}
	front := nginx(t, nodes[0])
	tiers := []Tier{
		{Name: "edge", Kind: Edge, Owner: "status", Nodes: []string{o.url}},
		{Name: "lb", Kind: LoadBalancer, TTL: time.Hour, Owner: "hosting", Nodes: nodes, Purge: Purge{Adapter: VarnishPurge}},
		{Name: "cdn", Kind: CDN, TTL: time.Hour, Owner: "cdn desk", Nodes: []string{front}, Probe: front, Purge: Purge{Adapter: Nginx}},
		{Name: "clients", Kind: Client, TTL: 4 * time.Hour},
	}
	c := o.caches(nil, tiers...)
	verify := func(want string) Verification {
		t.Helper()
		v := must(c.Verify(t.Context(), o.head.Sequence, o.targets(1, 2)))(t)
		if got := verdicts(v); got != want {
			t.Fatalf("%s, want %s\n%s", got, want, v)
		}
		return v
	}
	const clean = "edge newest, lb newest, lb newest, lb newest, cdn newest"
	if v := verify(clean); !v.Complete { // which also fills every cache
		t.Errorf("not complete: %s", v)
	}
	o.publish(time.Minute, true, 1, 2)
	verify("edge older, lb older, lb older, lb older, cdn older")
	o.refresh()
	v := verify("edge newest, lb older, lb older, lb older, cdn older")
	if text := v.String(); v.Complete || !v.Stale || strings.Count(text, "still serves an older answer") != 4 || !strings.Contains(text, nodes[1]+" of tier lb") || !strings.Contains(text, "(1h0m") {
		t.Errorf("the stale nodes are not named with their age:\n%s", text)
	}
	published := func(context.Context) (Publication, error) {
		return Publication{Sequence: o.head.Sequence, At: o.head.At}, nil
	}
	p := must(c.Purge(t.Context(), o.targets(1, 2), published))(t)
	if p.Accepted || len(p.Tiers) != 2 || p.Tiers[0].Nodes[0].Failed != 0 || p.Tiers[0].Nodes[1].Detail != "HTTP 405; given up" || p.Tiers[0].Nodes[2].Failed != 0 || p.Tiers[1].Nodes[0].Failed != 0 {
		t.Errorf("%s\n%+v", p, p.Tiers)
	}
	if !strings.Contains(p.String(), nodes[1]+" of tier lb: HTTP 405; given up; call hosting") {
		t.Errorf("the node that refuses is not named:\n%s", p)
	}
	if p.Tiers[1].Began.Before(p.Tiers[0].Ended) {
		t.Error("the outer tier was purged before the inner one was done")
	}
	v = verify("edge newest, lb newest, lb older, lb older, cdn newest")
	if text := v.String(); !strings.Contains(text, nodes[2]+" of tier lb still serves an older answer") {
		t.Errorf("the node that ignores purges is not named:\n%s", text)
	}
	tiers[1].Purge.Adapter = VarnishBan
	c = o.caches(nil, tiers...)
	if p := must(c.Purge(t.Context(), o.targets(1, 2), published))(t); !p.Accepted {
		t.Errorf("bans: %s", p)
	}
	if v := verify(clean); !v.Complete || v.Stale {
		t.Errorf("not complete: %s", v)
	}
	// A ban of everything needs no list.
	o.publish(time.Second, false, 3)
	o.publish(time.Second, false, 1, 2)
	o.refresh()
	all := o.targets(1, 2)
	all.All, all.Whole = true, true
	if p := must(c.Purge(t.Context(), all, published))(t); !p.Accepted {
		t.Errorf("all: %s", p)
	}
	verify(clean)
}
