package queuetest

import (
	"fmt"
	"strings"

	"github.com/slipway-build/slipway/queue"
)

var logCases = []testCase{
	{
		"Append",
		"AppendLogs adds bytes at the ends of logs, for leased attempts, and returns the length that is stored now.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			s.wantLog(b, id, "", false)
			s.append(id, 0, "one ")
			s.append(id, 4, "two ")
			s.wantLog(b, id, "one two ", false)
			s.cancel(b, queue.Cancelling)
			s.append(id, 8, "three")
			s.wantLog(b, id, "one two three", false)
			lease, err := s.Lease(s.ctx, id)
			s.must(err)
			if rows := s.attempts(b); lease.LogLength != 13 || len(rows) != 1 || rows[0].LogLength != 13 {
				s.Errorf("log length is %d in the lease, %v in the attempts, want 13", lease.LogLength, rows)
			}
			s.ends(report(id, queue.Succeeded), queue.Succeeded)
			s.wantLog(b, id, "one two three", true)
		},
	},
	{
		"Overlap",
		"Bytes that are stored already are dropped.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			s.append(id, 0, "abcdef")
			for _, c := range []struct {
				offset int64
				data   string
				length int64
			}{{0, "abcdef", 6}, {0, "abc", 6}, {3, "def", 6}, {2, "XY", 6}, {6, "", 6}, {2, "", 6}, {4, "efgh", 8}, {0, "abcdefghij", 10}, {10, "k", 11}} {
				if length, counts := s.appends(id, c.offset, c.data); !counts || length != c.length {
					s.Errorf("append of %q at %d returned %d, want %d", c.data, c.offset, length, c.length)
				}
			}
			s.wantLog(b, id, "abcdefghijk", false)
		},
	},
	{
		"Gap",
		"A write that begins after the end stores nothing; the result holds the length that is stored.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			gap := func(offset, want int64) {
				s.Helper()
				if length, counts := s.appends(id, offset, "beyond"); !counts || length != want {
					s.Errorf("append at %d of %d bytes returned %d, %t", offset, want, length, counts)
				}
			}
			gap(1, 0)
			s.append(id, 0, "abc")
			gap(4, 3)
			gap(1<<40, 3)
			s.append(id, 3, "def")
			s.wantLog(b, id, "abcdef", false)
		},
	},
	{
		"Empty",
		"An attempt that wrote nothing has an empty log.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			if length, counts := s.appends(id, 0, ""); !counts || length != 0 {
				s.Errorf("append of nothing returned %d, %t", length, counts)
			}
			s.ends(report(id, queue.Succeeded), queue.Succeeded)
			s.wantLog(b, id, "", true)
			if rows := s.attempts(b); len(rows) != 1 || rows[0].LogLength != 0 || !rows[0].LogComplete {
				s.Errorf("attempts are %v", rows)
			}
		},
	},
	{
		"Binary",
		"A log is a stream of bytes: it comes back as it was written, whatever the bytes.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			var all []byte
			for i := range 256 {
				all = append(all, byte(i), 0, 0xff, '\n')
			}
			text := string(all)
			s.append(id, 0, text[:301])
			s.append(id, 301, text[301:])
			s.wantLog(b, id, text, false)
		},
	},
	{
		"Large",
		"A chunk may be large, and a log may consist of many.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			var all strings.Builder
			for i := range 5 {
				chunk := strings.Repeat(fmt.Sprintf("chunk %d of a long log\n", i), 20_000)
				s.append(id, int64(all.Len()), chunk)
				all.WriteString(chunk)
			}
			for i := range 100 {
				line := fmt.Sprintf("line %d\n", i)
				s.append(id, int64(all.Len()), line)
				all.WriteString(line)
			}
			s.wantLog(b, id, all.String(), false)
		},
	},
	{
		"Read",
		"ReadLog returns at most max bytes from offset on; none at or after the end.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			text := "0123456789abcdefghijklmnopqrstuvwxyz"
			for i := 0; i < len(text); i += 4 {
				s.append(id, int64(i), text[i:i+4])
			}
			for _, offset := range []int{0, 1, 3, 4, 5, 19, 31, 32, 35, 36, 37, 40} {
				for _, most := range []int{1, 4, 5, 100} {
					page, err := s.ReadLog(s.ctx, b.Project, id, int64(offset), most)
					s.must(err)
					want := text[min(offset, len(text)):min(offset+most, len(text))]
					if page.AttemptID != id || page.Offset != int64(offset) || page.Length != int64(len(text)) || page.Closed ||
						!strings.HasPrefix(want, string(page.Data)) || len(page.Data) == 0 && want != "" {
						s.Fatalf("ReadLog of %d bytes at %d returned %+v, want %q", most, offset, page, want)
					}
				}
			}
			page, err := s.ReadLog(s.ctx, b.Project, id, 1<<40, 10)
			s.must(err)
			if len(page.Data) != 0 || page.Length != int64(len(text)) {
				s.Errorf("ReadLog far after the end returned %+v", page)
			}
		},
	},
	{
		"NewestAccepted",
		"A zero epoch stands for the newest attempt that was accepted.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			read := func(epoch int64) (queue.LogPage, error) {
				return s.ReadLog(s.ctx, b.Project, queue.AttemptID{Build: b.ID, Epoch: epoch}, 0, 100)
			}
			for _, epoch := range []int64{0, 1} {
				_, err := read(epoch)
				s.wantErr(err, queue.ErrNotFound)
			}
			s.releases(s.offered(b, s.worker()))
			session := s.worker()
			second := s.offered(b, session)
			for _, epoch := range []int64{0, 1, 2} {
				_, err := read(epoch)
				s.wantErr(err, queue.ErrNotFound)
			}
			s.accept(second, session)
			s.append(second, 0, "second")
			s.ends(report(second, queue.Lost), queue.Pending)
			s.pass(backoff.Max)
			s.maintain(s.rules())
			session = s.worker()
			third := s.offered(b, session)
			want := func(epoch int64, id queue.AttemptID, text string, closed bool) {
				s.Helper()
				page, err := read(epoch)
				s.must(err)
				if page.AttemptID != id || string(page.Data) != text || page.Closed != closed {
					s.Errorf("epoch %d reads as %+v, want %v with %q, closed %t", epoch, page, id, text, closed)
				}
			}
			want(0, second, "second", true)
			_, err := read(3)
			s.wantErr(err, queue.ErrNotFound)
			s.accept(third, session)
			want(0, third, "", false)
			s.append(third, 0, "third")
			want(0, third, "third", false)
			want(2, second, "second", true)
			want(3, third, "third", false)
		},
	},
	{
		"NotFound",
		"ReadLog returns ErrNotFound if there is no such build in the project or no such attempt.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			s.append(id, 0, "secret")
			_, err := s.ReadLog(s.ctx, "elsewhere", id, 0, 10)
			s.wantErr(err, queue.ErrNotFound)
			_, err = s.ReadLog(s.ctx, b.Project, queue.AttemptID{Build: queue.NewID(), Epoch: 1}, 0, 10)
			s.wantErr(err, queue.ErrNotFound)
			_, err = s.ReadLog(s.ctx, b.Project, queue.AttemptID{Build: b.ID, Epoch: 2}, 0, 10)
			s.wantErr(err, queue.ErrNotFound)
		},
	},
	{
		"Stale",
		"A fenced change is made only if the attempt is the newest of its build and its state admits it.",
		func(s *subject) {
			s.eachStale(func(_ queue.NewBuild, id queue.AttemptID, _ queue.SessionID) bool {
				_, first := s.appends(id, 0, "late")
				_, empty := s.appends(id, 0, "")
				return first || empty
			})
			b := s.draft()
			s.queued(b)
			_, again := s.reoffered()
			for _, id := range []queue.AttemptID{s.offered(b, s.worker()), again} {
				if _, counts := s.appends(id, 0, "early"); counts {
					s.Errorf("the log of an offer takes bytes")
				}
			}
		},
	},
	{
		"StaleWithLog",
		"What an attempt has logged stays as it is when the attempt has ended, however it ended.",
		func(s *subject) {
			for _, outcome := range []queue.State{queue.Succeeded, queue.Lost} {
				b := s.draft()
				s.queued(b)
				id := s.running(b, s.worker())
				s.append(id, 0, "as it was")
				s.finish(report(id, outcome))
				s.unchanged("a late append", func() {
					if _, counts := s.appends(id, 9, " and more"); counts {
						s.Errorf("an append after %v counts", outcome)
					}
				}, b)
				s.wantLog(b, id, "as it was", true)
				if outcome == queue.Lost {
					s.pass(backoff.Max)
					s.maintain(s.rules())
					next := s.running(b, s.worker())
					s.append(next, 0, "another")
					if _, counts := s.appends(id, 9, " and more"); counts {
						s.Errorf("an append of the old attempt counts while the new one runs")
					}
					s.wantLog(b, id, "as it was", true)
					s.wantLog(b, next, "another", false)
				}
			}
		},
	},
	{
		"Batch",
		"Items that are stale are left out of the result and do not disturb the other items.",
		func(s *subject) {
			builds := s.drafts(30)
			s.queued(builds...)
			session := s.worker()
			var chunks []queue.LogChunk
			for i, b := range builds {
				id := s.running(b, session)
				s.append(id, 0, "begin ")
				chunk := queue.LogChunk{AttemptID: id, Offset: 6, Data: fmt.Appendf(nil, "log %d", i)}
				switch i % 5 {
				case 1:
					chunk.Epoch++
				case 2:
					s.ends(report(id, queue.Failed), queue.Failed)
				case 3:
					chunk.Offset = 7
				}
				chunks = append(chunks, chunk)
			}
			chunks[4].Build = queue.NewID()
			lengths, err := s.AppendLogs(s.ctx, chunks, roomy, s.now)
			s.must(err)
			got := make(map[queue.AttemptID]int64)
			for _, l := range lengths {
				got[l.AttemptID] = l.Length
			}
			if len(got) != 17 || len(lengths) != 17 {
				s.Errorf("AppendLogs returned %d lengths, want 17", len(lengths))
			}
			for i, b := range builds {
				id := queue.AttemptID{Build: b.ID, Epoch: 1}
				text := fmt.Sprintf("begin log %d", i)
				length, counts := got[id]
				if fits := (i%5 == 0 || i%5 == 4) && i != 4; !fits {
					text = "begin "
				}
				if counts && length != int64(len(text)) {
					s.Errorf("item %d: length is %d, want %d", i, length, len(text))
				}
				s.wantLog(b, id, text, i%5 == 2)
			}
		},
	},
	{
		"Complete",
		"LogComplete says that the worker reported the end of its log and all of it is stored.",
		func(s *subject) {
			session := s.worker()
			for _, c := range []struct {
				length  int64
				partial bool
				want    bool
			}{{5, false, true}, {5, true, false}, {6, false, false}, {4, false, false}, {0, false, false}} {
				b := s.draft()
				s.queued(b)
				id := s.running(b, session)
				s.append(id, 0, "12345")
				end := report(id, queue.Succeeded)
				end.LogLength, end.LogPartial, end.LogSHA256 = c.length, c.partial, queue.Digest{8, 8}
				s.ends(end, queue.Succeeded)
				rows := s.attempts(b)
				if len(rows) != 1 || rows[0].LogComplete != c.want || rows[0].LogLength != 5 || rows[0].LogSHA256 != end.LogSHA256 {
					s.Errorf("declared %d, partial %t: attempts are %v", c.length, c.partial, rows)
				}
			}
		},
	},
	{
		"ArgumentsAreNotKept",
		"Slices and maps of arguments are not kept; those of results belong to the caller.",
		func(s *subject) {
			b := s.draft()
			s.queued(b)
			id := s.running(b, s.worker())
			data := []byte("precious")
			_, err := s.AppendLogs(s.ctx, []queue.LogChunk{{AttemptID: id, Data: data}}, roomy, s.now)
			s.must(err)
			data[0] = 'X'
			page, err := s.ReadLog(s.ctx, b.Project, id, 0, 100)
			s.must(err)
			clear(page.Data)
			s.wantLog(b, id, "precious", false)
		},
	},
}

// appends writes to an attempt's log, and returns the length that is stored and whether the write counted.
func (s *subject) appends(id queue.AttemptID, offset int64, data string) (int64, bool) {
	s.Helper()
	lengths, err := s.AppendLogs(s.ctx, []queue.LogChunk{{AttemptID: id, Offset: offset, Data: []byte(data)}}, roomy, s.now)
	s.must(err)
	if len(lengths) == 0 {
		return 0, false
	}
	if len(lengths) > 1 || lengths[0].AttemptID != id {
		s.Fatalf("AppendLogs for %v returned %v", id, lengths)
	}
	return lengths[0].Length, true
}

// append adds to the end of an attempt's log, which must count.
func (s *subject) append(id queue.AttemptID, offset int64, data string) {
	s.Helper()
	if length, counts := s.appends(id, offset, data); !counts || length != offset+int64(len(data)) {
		s.Fatalf("append of %d bytes at %d returned %d, %t", len(data), offset, length, counts)
	}
}

// wantLog reports a log that is not as wanted.
func (s *subject) wantLog(b queue.NewBuild, id queue.AttemptID, want string, closed bool) {
	s.Helper()
	if got := s.log(b, id.Epoch); string(got) != want {
		s.Errorf("log of %d bytes is %.100q…, want %d bytes %.100q…", len(got), got, len(want), want)
	}
	page, err := s.ReadLog(s.ctx, b.Project, id, 0, 1)
	s.must(err)
	if page.Closed != closed {
		s.Errorf("log is closed: %t, want %t", page.Closed, closed)
	}
}
