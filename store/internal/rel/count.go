package rel

import "context"

// Statements returns how many statements this process has run outside transactions, and how many in them: what an
// operation costs that does not depend on the machine.
func (s *Store) Statements() (outside, inside int64) {
	for _, p := range s.pools() {
		outside += p.asked.Load()
		inside += p.inTx.Load()
	}
	return outside, inside
}

// brief is the context of a statement that looks a few rows up by an index, where the engine is in this process: it is
// over in microseconds, and a context that can end would cost two goroutines to watch it. One that has ended stays so.
func (s *Store) brief(ctx context.Context) context.Context {
	if !s.dialect.Prepares || ctx.Err() != nil {
		return ctx
	}
	return context.WithoutCancel(ctx)
}
