package run

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"

	"bulkhead"
	"bulkhead/keys"
)

// SandboxOptions say what the signer's process may still reach once it is shut in.
type SandboxOptions struct {
	Dir   string   // the data directory: read and written
	Read  []string // folders and files to read beside the system's libraries, for example that of a token's module
	Write []string // folders to write
	Ports []int    // TCP ports that may be dialled, for example the database's; its unix socket needs none
}

// systemFolders are read by every program: libraries, name service, time zones, the token's module.
var systemFolders = []string{"/etc", "/usr", "/lib", "/lib64", "/proc/self", "/proc/sys", "/sys/devices/system/cpu", "/dev/urandom", "/dev/null"}

// Sandbox shuts this process in by Landlock, for good: it opens no file, and binds and dials no TCP port, beyond what the
// options and the configuration name. KindUnavailable where the kernel cannot do that.
func Sandbox(o SandboxOptions) error {
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "the data directory %s has no absolute path", o.Dir).WithCause(err)
	}
	if cfg.KeyRing != "" {
		library, pin, err := keys.TokenFiles(cfg.KeyRing)
		if err != nil {
			return err
		}
		o.Read = append(append([]string{}, o.Read...), filepath.Dir(library), pin)
	}
	rules := []landlock.Rule{landlock.RWDirs(append([]string{dir}, o.Write...)...)}
	for _, p := range append(append([]string{}, systemFolders...), o.Read...) {
		rules = append(rules, readRule(p).IgnoreIfMissing())
	}
	if path, ok := strings.CutPrefix(cfg.Signer.Listen, "unix:"); ok {
		rules = append(rules, landlock.RWDirs(filepath.Dir(path)))
	}
	for _, l := range []string{cfg.Signer.Listen, cfg.MetricsListen} {
		if port, ok := portOf(l); ok {
			rules = append(rules, landlock.BindTCP(port))
		}
	}
	for _, p := range o.Ports {
		rules = append(rules, landlock.ConnectTCP(uint16(p)))
	}
	if err := landlock.V5.Restrict(rules...); err != nil {
		return bulkhead.NewFault(bulkhead.KindUnavailable, "this kernel cannot shut the signer in (Landlock)").WithHint("Linux 6.10 or later with Landlock; or --sandbox=off, and let systemd do it").WithCause(err)
	}
	return nil
}

// readRule allows reading a folder with all below it, a file or a device.
func readRule(path string) landlock.FSRule {
	info, err := os.Stat(path)
	switch {
	case err != nil || info.IsDir():
		return landlock.RODirs(path)
	case info.Mode()&fs.ModeDevice != 0:
		return landlock.RWFiles(path)
	default:
		return landlock.ROFiles(path)
	}
}

func portOf(address string) (uint16, bool) {
	if address == "" || strings.HasPrefix(address, "unix:") {
		return 0, false
	}
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil
}
