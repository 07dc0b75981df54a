package drill

import (
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
	"time"

	"bulkhead"
	"bulkhead/internal/heldport"
)

// server is a cache that is a program of its own. It is emptied by a new start.
type server struct {
	name, addr, adapter string
	dir                 string // its files, and the one that makes it deaf
	store               string // folder that a new start empties; "" where nothing outlives the process
	path                string
	args                []string

	mu    sync.Mutex
	stop  context.CancelFunc
	ended chan struct{}
	log   *tail
}

// tail keeps the beginning of what a program says.
type tail struct {
	mu sync.Mutex
	b  strings.Builder
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() < 4096 {
		t.b.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// program finds a server, which may be no program for everybody's path.
func program(name, pkg string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin") {
		if path := filepath.Join(dir, name); executable(path) {
			return path, nil
		}
	}
	return "", missing(name, pkg)
}

func missing(what, pkg string) error {
	return bulkhead.Faultf(bulkhead.KindUnavailable, "%s is not on this machine", what).WithHint("install " + pkg + ", or rehearse with caches of the drill's own: leave --real-caches out")
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// node gives a server its folder and its address.
func (s *Stage) node(name, adapter string) (*server, error) {
	at, release, err := heldport.Hold()
	if err != nil {
		return nil, err
	}
	s.end(func() error { release(); return nil })
	n := &server{name: name, addr: at.String(), adapter: adapter, dir: filepath.Join(s.dir, "tier-"+name)}
	return n, os.MkdirAll(n.dir, 0o755)
}

// varnish makes a node of the load balancer. Varnish passes POST on and keeps GET.
func (s *Stage) varnish(name string, ttl time.Duration, origin string) (Cache, error) {
	n, err := s.node(name, "varnish-purge")
	if err != nil {
		return nil, err
	}
	if n.path, err = program("varnishd", "varnish"); err != nil {
		return nil, err
	}
	b, err := url.Parse(origin)
	if err != nil {
		return nil, err
	}
	vcl := fmt.Sprintf(`vcl 4.1;
import std;
backend default { .host = %q; .port = %q; }
sub vcl_recv {
  if (req.method == "PURGE") {
    if (std.file_exists(%q)) { return (synth(200, "Purged")); }
    return (purge);
  }
}
sub vcl_backend_response { if (beresp.http.Cache-Control !~ "no-store") { set beresp.ttl = %ds; set beresp.grace = 0s; } }
`, b.Hostname(), b.Port(), n.deaf(), int(ttl/time.Second))
	file := filepath.Join(n.dir, "node.vcl")
	if err := os.WriteFile(file, []byte(vcl), 0o644); err != nil {
		return nil, err
	}
	n.args = []string{"-F", "-n", filepath.Join(n.dir, "n"), "-a", n.addr, "-f", file, "-s", "malloc,32m", "-j", "none", "-T", "none"}
	return n, n.start(s.ctx)
}

// purgeModule is what gives nginx a PURGE.
const purgeModule = "/usr/lib/nginx/modules/ngx_http_cache_purge_module.so"

// nginx makes the CDN.
func (s *Stage) nginx(name string, ttl time.Duration, origin string) (Cache, error) {
	n, err := s.node(name, "nginx")
	if err != nil {
		return nil, err
	}
	if n.path, err = program("nginx", "nginx"); err != nil {
		return nil, err
	}
	if _, err := os.Stat(purgeModule); err != nil {
		return nil, missing(purgeModule, "libnginx-mod-http-cache-purge")
	}
	n.store = filepath.Join(n.dir, "cache")
	conf := fmt.Sprintf(`load_module %s;
daemon off; master_process off; pid %[2]s/pid; error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
  proxy_cache_path %[3]s keys_zone=status:1m;
  server {
    listen %[4]s;
    merge_slashes off;
    location / {
      proxy_pass %[5]s;
      proxy_set_header Host $http_host;
      proxy_cache status;
      proxy_cache_key $host$request_uri;
      proxy_ignore_headers Expires;
      proxy_cache_valid 200 %[6]ds;
      if ($request_method = PURGE) { return 418; }
      error_page 418 = @purge;
    }
    location @purge { # a PURGE directive in the cached location crashes the worker of Debian 12
      allow 127.0.0.1; deny all;
      if (-f %[7]s) { return 200; }
      proxy_cache_purge status $host$request_uri;
    }
  }
}
`, purgeModule, n.dir, n.store, n.addr, origin, int(ttl/time.Second), n.deaf())
	file := filepath.Join(n.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	n.args = []string{"-p", n.dir, "-e", "stderr", "-c", file}
	return n, n.start(s.ctx)
}

func (n *server) deaf() string { return filepath.Join(n.dir, "deaf") }

// Name implements Cache.
func (n *server) Name() string { return n.name }

// URL implements Cache.
func (n *server) URL() string { return "http://" + n.addr }

// Adapter implements Cache.
func (n *server) Adapter() string { return n.adapter }

// SetDeaf implements Cache.
func (n *server) SetDeaf(deaf bool) error {
	if deaf {
		return os.WriteFile(n.deaf(), nil, 0o644)
	}
	if err := os.Remove(n.deaf()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// Bounds of a server's life.
const (
	startWithin = 2 * time.Minute // varnish compiles its configuration first
	graceToEnd  = 5 * time.Second // after that it is killed
)

// start runs the program and waits until it listens.
func (n *server) start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.store != "" {
		if err := os.RemoveAll(n.store); err != nil {
			return err
		}
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(run, n.path, n.args...)
	n.log = &tail{}
	cmd.Stdout, cmd.Stderr = n.log, n.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = graceToEnd
	if err := cmd.Start(); err != nil {
		stop()
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()                                      // it is told to end
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // and its children with it
		close(ended)
	}()
	n.stop, n.ended = stop, ended
	return n.listens(ctx)
}

func (n *server) listens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	var d net.Dialer
	for {
		if c, err := d.DialContext(ctx, "tcp", n.addr); err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return bulkhead.Faultf(bulkhead.KindUnavailable, "%s does not listen on %s: %s", n.path, n.addr, n.log)
		case <-n.ended:
			return bulkhead.Faultf(bulkhead.KindUnavailable, "%s ended at once: %s", n.path, n.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Empty implements Cache.
func (n *server) Empty() error {
	if err := n.Close(); err != nil {
		return err
	}
	return n.start(context.Background())
}

// Close implements Cache.
func (n *server) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stop != nil {
		n.stop()
		<-n.ended // within graceToEnd
	}
	return nil
}
