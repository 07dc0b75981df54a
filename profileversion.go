package bulkhead

import "time"

// ProfileVersion is a text of a certificate profile that people approved. The row points at the request and proves nothing:
// whoever goes by it reads the text from the request, and judges its signatures.
type ProfileVersion struct {
	Seq     int64 // in the order in which versions came into force
	Name    string
	Number  int    // from 1; 0 is what the house began with, and has no row
	Request string // the approved request, which holds the text
	At      time.Time
}
