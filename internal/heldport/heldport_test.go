package heldport_test

import (
	"net"
	"testing"
	"time"

	"bulkhead/internal/heldport"
)

// TestHeld: nobody is there, a server may come, go and come again, and no connection or listener that takes any port is given it.
func TestHeld(t *testing.T) {
	at := heldport.For(t).String()
	if c, err := net.DialTimeout("tcp", at, 5*time.Second); err == nil {
		t.Error("somebody listens at", c.RemoteAddr())
	}
	for range 3 {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.DialTimeout("tcp", at, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		_ = l.Close()
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Error(err)
	} else {
		_ = l.Close()
	}
}

// TestNotGivenAway: of as many ports as the system likes to give, none is one that is held; one that was only looked up is.
func TestNotGivenAway(t *testing.T) {
	const holds = 500
	held := map[string]bool{}
	for range holds {
		at, release, err := heldport.Hold()
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if held[at.String()] {
			t.Fatal(at, "twice")
		}
		held[at.String()] = true
	}
	free := map[string]bool{}
	again := false
	for range 4000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().String()
		_ = l.Close()
		if held[at] {
			t.Fatal(at, "was given to somebody else")
		}
		again = again || free[at]
		free[at] = true
	}
	if !again {
		t.Error("this test cannot fail: no port was given twice")
	}
}
