package queue

import "testing"

// TestJobLogAnswersOutOfOrder has the answer to a longer append arrive before that to a shorter one: nothing is lost by it.
func TestJobLogAnswersOutOfOrder(t *testing.T) {
	var l jobLog
	l.init(t.Context(), newBell())
	if _, err := l.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	l.keep(&LogLength{Length: 100})
	if _, err := l.Write(make([]byte, 50)); err != nil {
		t.Fatal(err)
	}
	l.keep(&LogLength{Length: 60}) // of an append before
	if _, err := l.Write(make([]byte, 1)); err != nil {
		t.Errorf("the log fails: %v", err)
	}
	chunk, ok := l.chunk(AttemptID{})
	if !ok || chunk.Offset != 100 || len(chunk.Data) != 51 {
		t.Errorf("to be stored: %d bytes from %d; want 51 from 100", len(chunk.Data), chunk.Offset)
	}
}
