package publishtest

import (
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/heldport"
)

// Gateway is a real S3-compatible server on loopback with one empty bucket.
type Gateway struct {
	Endpoint, Bucket     string
	AccessKey, SecretKey string
}

// gatewayProgram builds the server once a process. The tools module pins its version.
var gatewayProgram = sync.OnceValues(func() (string, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source of this package is not here")
	}
	dir, err := os.MkdirTemp("", "s3-gateway")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "versitygw")
	cmd := exec.Command("go", "build", "-o", out, "github.com/versity/versitygw/cmd/versitygw")
	cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..", "tools")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(text))
	}
	return out, nil
})

// StartGateway starts a server that ends with the test.
func StartGateway(t testing.TB) Gateway {
	t.Helper()
	program, err := gatewayProgram()
	if err != nil {
		t.Fatalf("the S3 server could not be built: %v", err)
	}
	g := Gateway{Bucket: "objects", AccessKey: "house", SecretKey: rand.Text()}
	dir := t.TempDir()
	for _, d := range []string{"buckets/objects", "metadata"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	g.Endpoint = heldport.For(t).String()
	cmd := exec.Command(program, "--port", g.Endpoint, "--quiet", "posix", "--sidecar", filepath.Join(dir, "metadata"), filepath.Join(dir, "buckets"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+g.AccessKey, "ROOT_SECRET_KEY="+g.SecretKey)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	client := http.Client{Timeout: 10 * time.Second}
	deadline := time.Now().Add(time.Minute)
	for {
		res, err := client.Get("http://" + g.Endpoint + "/")
		if err == nil {
			res.Body.Close()
			return g
		}
		if time.Now().After(deadline) {
			t.Fatalf("the S3 server does not answer: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
