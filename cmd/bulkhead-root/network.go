package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bulkhead"
)

// flagUp is IFF_UP of <linux/if.h>.
const flagUp = 1

// refuseNetwork fails while an interface other than lo is up. It reads files only: a tool that opened a socket to ask
// would be a tool that opens sockets. An interface whose state cannot be read counts as up.
func (t *tool) refuseNetwork() error {
	up, err := upInterfaces(t.sys)
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindGate, "this machine does not say which network interfaces it has").
			WithHint("hold the ceremony on Linux with /proc, or rehearse: --rehearsal").WithCause(err)
	}
	if len(up) > 0 {
		return bulkhead.Faultf(bulkhead.KindGate, "this machine is on a network (%s is up); a root key is used on machines without one", strings.Join(up, ", ")).
			WithHint("pull the cables and take the interface down: ip link set " + up[0] + " down; or rehearse: --rehearsal")
	}
	return nil
}

// upInterfaces reads /proc/self/net/dev, which is of this process's own network namespace, and the flags in /sys.
func upInterfaces(root string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc/self/net/dev"))
	if err != nil {
		return nil, err
	}
	var up []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, _, ok := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); !ok || name == "" || name == "lo" {
			continue
		}
		flags, err := os.ReadFile(filepath.Join(root, "sys/class/net", filepath.Base(name), "flags"))
		if err == nil {
			n, perr := strconv.ParseUint(strings.TrimSpace(string(flags)), 0, 64)
			if perr == nil && n&flagUp == 0 {
				continue
			}
		}
		up = append(up, name)
	}
	return up, lines.Err()
}
