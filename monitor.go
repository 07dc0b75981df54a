package bulkhead

import "time"

// CTMonitor is how far the house has read one certificate transparency log.
type CTMonitor struct {
	Log     string // its name in the configuration
	ID      Hash   // SHA-256 of the log's key
	First   int64  // number of the first entry that was read
	Read    int64  // entries before this number were read, from First on
	Size    int64  // of the newest checkpoint that was verified
	Root    Hash   // of that checkpoint
	At      time.Time
	Ours    int64 // entries of authorities of this house
	Unknown int64 // of them such as the record does not know
}
