package scan

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"bulkhead"
)

// State is the file of a run that may be killed: a line that says what is asked, then one line a target, as they are done.
// What a kill left of the last line is cut off.
type State struct {
	mu   sync.Mutex
	file *os.File
	done map[string]Result
}

// stateHead is the first line.
type stateHead struct {
	Format string `json:"bulkhead_scan"` // "1"
	Whole  bool   `json:"whole"`
}

// longestState bounds one line: a whole look with 64 addresses.
const longestState = 64 << 20

// OpenState opens or makes the file. A file of a run that asked for something else is refused.
func OpenState(path string, whole bool) (*State, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the state file cannot be opened: %s", err)
	}
	s := &State{file: f, done: map[string]Result{}}
	end, err := s.read(whole, path)
	if err == nil {
		err = errors.Join(f.Truncate(end), seek(f, end))
	}
	if err == nil && end == 0 {
		err = s.write(stateHead{Format: "1", Whole: whole})
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func seek(f *os.File, to int64) error {
	_, err := f.Seek(to, io.SeekStart)
	return err
}

// read takes every whole line and says where the last one ends.
func (s *State) read(whole bool, path string) (end int64, err error) {
	r := bufio.NewReaderSize(s.file, 1<<16)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return 0, fmt.Errorf("reading the state file: %w", err)
		}
		if n == 1 {
			var head stateHead
			if json.Unmarshal(line, &head) != nil || head.Format != "1" {
				return 0, bulkhead.Faultf(bulkhead.KindUsage, "%s is not the state file of a scan", path).WithHint("name another file with --state")
			}
			if head.Whole != whole {
				return 0, bulkhead.Faultf(bulkhead.KindUsage, "%s is of a run with other looks (--whole)", path).WithHint("name another file with --state, or scan as before")
			}
		} else {
			var x Result
			if len(line) > longestState || json.Unmarshal(bytes.TrimSpace(line), &x) != nil || x.Target == "" {
				return 0, bulkhead.Faultf(bulkhead.KindUsage, "%s: line %d cannot be read", path, n).WithHint("name another file with --state; this one was damaged")
			}
			s.done[x.Target] = x
		}
		end += int64(len(line))
	}
}

// Done is how many targets the file has.
func (s *State) Done() int {
	if s == nil {
		return 0
	}
	return len(s.done)
}

func (s *State) result(target string) (Result, bool) {
	if s == nil {
		return Result{}, false
	}
	r, ok := s.done[target]
	return r, ok
}

func (s *State) add(r Result) error {
	if s == nil {
		return nil
	}
	return s.write(r)
}

func (s *State) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("writing the state file: %w", err)
	}
	return nil
}

// Close ends the file's use.
func (s *State) Close() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.file.Sync(), s.file.Close())
}
