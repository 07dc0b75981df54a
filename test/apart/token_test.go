package apart

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// library is SoftHSM's: a token in a folder.
const library = "/usr/lib/softhsm/libsofthsm2.so"

// token makes the token on which the house makes its issuing keys. It is the signer's alone, once the house is apart.
func (h *house) token() {
	h.t.Helper()
	ok(h.t, os.MkdirAll(filepath.Join(h.hsm(), "tokens"), 0o700))
	conf := filepath.Join(h.dir, "softhsm2.conf")
	ok(h.t, os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(h.hsm(), "tokens")+"\nlog.level = ERROR\n"), 0o644))
	h.t.(*testing.T).Setenv("SOFTHSM2_CONF", conf)
	ok(h.t, os.WriteFile(filepath.Join(h.hsm(), "pin"), []byte("user-secret\n"), 0o600))
	h.must(exec.Command("softhsm2-util", "--init-token", "--free", "--label", "house", "--so-pin", "so-secret", "--pin", "user-secret"))
}

func (h *house) hsm() string { return filepath.Join(h.dir, "hsm") }

func (h *house) ring() string {
	return "pkcs11:token=house?module-path=" + library + "&pin-source=" + filepath.Join(h.hsm(), "pin")
}

// signerArgs are the command line of bulkhead-signer: where the token's folder is stands there, the PIN nowhere.
func (h *house) signerArgs() []string {
	return []string{"--data", h.data("signer"), "--allow-read", filepath.Join(h.dir, "softhsm2.conf"), "--allow-write", h.hsm()}
}

// pulledOut: the token goes away while four people ask for certificates, and comes back. Asking says what is wrong and what
// to do, status is answered, and the same signer goes on by itself. Every reservation has its end on record.
func pulledOut(t *testing.T, h *house) {
	h.t = t
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.process["signer"].Process.Pid)); err != nil || strings.Contains(string(text), "user-secret") {
		t.Errorf("the command line of the signer: %v: %q", err, text)
	}
	stem := h.issue("steady.example.test")
	h.wait("good", func() bool { return strings.Contains(h.ocsp(stem), stem+".crt: good") })
	pid := h.process["signer"].Process.Pid
	tokens := filepath.Join(h.hsm(), "tokens")

	var wg sync.WaitGroup
	stop, said := make(chan struct{}), make(chan string, 1)
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				out, err := h.bulkhead("issue", fmt.Sprintf("load%d-%d.example.test", i, n), "--out", h.dir)
				if err != nil {
					select {
					case said <- out:
					default:
					}
				}
			}
		})
	}
	ok(t, os.Rename(tokens, tokens+".away"))
	var out string
	h.wait("a refusal", func() bool {
		select {
		case out = <-said:
			return true
		default:
			return false
		}
	})
	if !strings.Contains(out, "next: ") || strings.Contains(out, "user-secret") {
		t.Errorf("without its token the house says: %s", out)
	}
	if got := h.ocsp(stem); !strings.Contains(got, stem+".crt: good") {
		t.Errorf("without its token the edge says: %s", got)
	}
	ok(t, os.Rename(tokens+".away", tokens))
	close(stop)
	wg.Wait()
	h.wait("a certificate with the token back", func() bool {
		_, err := h.bulkhead("issue", "back.example.test", "--out", h.dir)
		return err == nil
	})
	if h.process["signer"].Process.Pid != pid || h.process["signer"].ProcessState != nil {
		t.Error("the signer did not live through it")
	}
	waiting := regexp.MustCompile(`(load[0-9-]+\.example\.test)\.key`).FindStringSubmatch(out)
	if len(waiting) != 2 {
		t.Fatalf("no order is said to wait: %s", out)
	}
	h.wait("the certificate of the order that waited", func() bool {
		list, err := h.bulkhead("cert", "list", "--q", waiting[1], "--json")
		return err == nil && strings.Contains(list, `"serial"`)
	})
	h.wait("the end of every reservation", func() bool { return h.sql("owner", nothingOpen) == nil })
	for r, l := range h.logs {
		if strings.Contains(l.String(), "user-secret") {
			t.Errorf("the log of %s holds the PIN", r)
		}
	}
}

// nothingOpen divides by zero while some certificate is reserved and neither issued nor given up.
const nothingOpen = "SELECT 1 / (CASE WHEN EXISTS (SELECT 1 FROM certificates WHERE state = 'reserved') THEN 0 ELSE 1 END)"
