package rel_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"
	"time"

	"bulkhead"
)

// TestLaneIsReplaced: a connection that is gone holds no write up, and one with a transaction that nobody ended fails one write and is given
// up with what was in it.
func TestLaneIsReplaced(t *testing.T) {
	s, _, _ := remembering(t)
	add := func() error {
		_, err := s.AppendEvidence(t.Context(), bulkhead.Evidence{Kind: bulkhead.EvStart, At: time.Unix(1, 0), Actor: "role:test"})
		return err
	}
	head := func() int64 {
		seq, _, err := s.EvidenceHead(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	if err := add(); err != nil {
		t.Fatal(err)
	}
	before := head()
	_ = s.InTurn(t.Context(), func(conn *sql.Conn) error { return conn.Raw(func(any) error { return driver.ErrBadConn }) })
	if err := add(); err != nil {
		t.Errorf("after a lost connection: %v", err)
	}
	err := s.InTurn(t.Context(), func(conn *sql.Conn) error {
		for _, text := range []string{"BEGIN IMMEDIATE", "UPDATE evidence_head SET seq = 99"} {
			if _, err := conn.ExecContext(t.Context(), text); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if add() == nil {
		t.Error("a write went into somebody else's transaction")
	}
	if err := add(); err != nil {
		t.Errorf("after a connection was given up: %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if got := head(); got != before+2 {
		t.Errorf("the head is %d, not %d", got, before+2)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	err = s.InTurn(t.Context(), func(*sql.Conn) error {
		return s.InTurn(over, func(*sql.Conn) error { t.Error("two have the turn"); return nil })
	})
	if err == nil {
		t.Error("the turn was given twice")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := add(); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		t.Errorf("a write to a closed store: %v", err)
	}
}
