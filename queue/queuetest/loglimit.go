package queuetest

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/slipway-build/slipway/queue"
)

var logLimitCases = []testCase{
	{
		"Bytes",
		"Of a chunk that would take a log beyond the limit the part that fits is stored, to the byte, and the log is cut.",
		func(s *subject) {
			const most = 10
			for _, before := range []int{0, 1, most - 1, most} {
				for _, length := range []int{most - 1, most, most + 1, 3 * most} {
					if length < before {
						continue
					}
					b := s.draft()
					s.queued(b)
					id := s.running(b, s.worker())
					text := strings.Repeat("0123456789", 3)[:length]
					limit := queue.LogLimit{Bytes: most, Lines: 100}
					s.wantStored(s.write(id, 0, text[:before], limit), int64(before), false)
					s.wantStored(s.write(id, int64(before), text[before:], limit), int64(min(length, most)), length > most)
					s.wantLog(b, id, text[:min(length, most)], false)
				}
			}
		},
	},
	{
		"Lines",
		"Nothing is stored after the last newline that a log may have.",
		func(s *subject) {
			const most = 10_000
			limit := queue.LogLimit{Bytes: 1 << 30, Lines: most}
			var text strings.Builder
			for i := range most + 1 {
				fmt.Fprintf(&text, "line %d\n", i+1)
			}
			all := text.String()
			fits := all[:strings.Index(all, "line 10001\n")]
			b, id := s.logging()
			s.wantStored(s.write(id, 0, all, limit), int64(len(fits)), true)
			s.wantLog(b, id, fits, false)
			b, id = s.logging()
			s.wantStored(s.write(id, 0, fits, limit), int64(len(fits)), false)
			s.wantStored(s.write(id, int64(len(fits)), "", limit), int64(len(fits)), false)
			s.wantStored(s.write(id, int64(len(fits)), "l", limit), int64(len(fits)), true)
			s.wantLog(b, id, fits, false)
			b, id = s.logging()
			s.wantStored(s.write(id, 0, fits[:len(fits)-1], limit), int64(len(fits)-1), false)
			s.wantStored(s.write(id, int64(len(fits)-1), "\nline 10001\n", limit), int64(len(fits)), true)
			s.wantLog(b, id, fits, false)
		},
	},
	{
		"Chunks",
		"Where a log is cut does not depend on the chunks in which it comes.",
		func(s *subject) {
			text := "one\n\n\nfour\nfive with no end and more\nsix\nseven, which is too much"
			for _, limit := range []queue.LogLimit{
				{Bytes: 100, Lines: 5},
				{Bytes: 100, Lines: 6},
				{Bytes: 100, Lines: 7},
				{Bytes: 100, Lines: 1},
				{Bytes: 20, Lines: 100},
				{Bytes: 4, Lines: 1},
				{Bytes: 4, Lines: 2},
				{Bytes: 3, Lines: 1},
				{Bytes: int64(len(text)), Lines: 6},
			} {
				want := text[:min(int64(len(text)), limit.Bytes)]
				if lines := strings.SplitAfterN(want, "\n", int(limit.Lines)+1); len(lines) > int(limit.Lines) {
					want = want[:len(want)-len(lines[limit.Lines])]
				}
				for _, size := range []int{1, 2, 3, 7, 16, 40, len(text)} {
					b, id := s.logging()
					var last queue.LogLength
					for i := 0; i < len(text) && !last.Cut; i += size {
						last = s.write(id, int64(i), text[i:min(len(text), i+size)], limit)
					}
					s.wantStored(last, int64(len(want)), len(want) < len(text))
					s.wantLog(b, id, want, false)
				}
			}
		},
	},
	{
		"CutIsFinal",
		"When a log is cut, later chunks store nothing and are not stale, wherever they begin and whatever the limit is by then.",
		func(s *subject) {
			b, id := s.logging()
			limit := queue.LogLimit{Bytes: 5, Lines: 5}
			s.wantStored(s.write(id, 0, "0123456", limit), 5, true)
			s.unchanged("an append to a log that is cut", func() {
				for _, offset := range []int64{0, 4, 5, 6, 7, 1 << 40} {
					s.wantStored(s.write(id, offset, "xyz", limit), 5, true)
					s.wantStored(s.write(id, offset, "xyz", roomy), 5, true)
					s.wantStored(s.write(id, offset, "", roomy), 5, true)
				}
			}, b)
		},
	},
	{
		"Shown",
		"That a log is cut is shown to who reads it and in the attempt. It is not complete, and an attempt after it has a log of its own.",
		func(s *subject) {
			b, id := s.logging()
			page, err := s.ReadLog(s.ctx, b.Project, id, 0, 100)
			s.must(err)
			if rows := s.attempts(b); page.Cut || len(rows) != 1 || rows[0].LogCut {
				s.Errorf("page is %+v, attempts are %+v: the log is not cut yet", page, rows)
			}
			s.write(id, 0, "0123456", queue.LogLimit{Bytes: 5, Lines: 5})
			end := report(id, queue.Lost)
			end.LogLength = 7
			s.ends(end, queue.Pending)
			page, err = s.ReadLog(s.ctx, b.Project, id, 3, 100)
			s.must(err)
			if !page.Cut || page.Length != 5 || string(page.Data) != "34" || !page.Closed {
				s.Errorf("page is %+v", page)
			}
			if rows := s.attempts(b); len(rows) != 1 || !rows[0].LogCut || rows[0].LogLength != 5 || rows[0].LogComplete {
				s.Errorf("attempts are %+v", rows)
			}
			s.pass(backoff.Base)
			s.maintain(s.rules())
			next := s.running(b, s.worker())
			s.append(next, 0, "0123456")
			if rows := s.attempts(b); len(rows) != 2 || !rows[0].LogCut || rows[1].LogCut {
				s.Errorf("attempts are %+v", rows)
			}
		},
	},
	{
		"Again",
		"Bytes that are stored already are dropped, and do not count twice towards the limit.",
		func(s *subject) {
			b, id := s.logging()
			limit := queue.LogLimit{Bytes: 12, Lines: 4}
			text := "a\nbb\nccc\ndd\n"
			for i := range len(text) + 1 {
				s.wantStored(s.write(id, 0, text[:i], limit), int64(i), false)
				s.wantStored(s.write(id, int64(i/2), text[i/2:i], limit), int64(i), false)
			}
			s.wantLog(b, id, text, false)
			s.wantStored(s.write(id, 9, "dd\ne", limit), 12, true)
		},
	},
	{
		"MillionLines",
		"A chunk may have any number of lines.",
		func(s *subject) {
			const n = 1_000_000
			lines := strings.Repeat("\n", n)
			b, id := s.logging()
			s.wantStored(s.write(id, 0, lines, queue.LogLimit{Bytes: 1 << 30, Lines: n}), n, false)
			s.wantStored(s.write(id, n, "\n", queue.LogLimit{Bytes: 1 << 30, Lines: n}), n, true)
			s.wantLog(b, id, lines, false)
			b, id = s.logging()
			s.wantStored(s.write(id, 0, lines, queue.LogLimit{Bytes: 1 << 30, Lines: n / 2}), n/2, true)
			s.wantLog(b, id, lines[:n/2], false)
		},
	},
	{
		"Batch",
		"Each log of a batch has the limit for itself.",
		func(s *subject) {
			var chunks []queue.LogChunk
			var builds []queue.NewBuild
			limit := queue.LogLimit{Bytes: 20, Lines: 3}
			for i := range 12 {
				b, id := s.logging()
				chunk := queue.LogChunk{AttemptID: id, Data: bytes.Repeat([]byte("x"), 2*i)}
				if i%2 == 1 {
					chunk.Data = bytes.Repeat([]byte("\n"), i)
				}
				builds, chunks = append(builds, b), append(chunks, chunk)
			}
			lengths, err := s.AppendLogs(s.ctx, chunks, limit, s.now)
			s.must(err)
			got := make(map[queue.AttemptID]queue.LogLength)
			for _, l := range lengths {
				got[l.AttemptID] = l
			}
			for i, c := range chunks {
				most := 20
				if i%2 == 1 {
					most = 3
				}
				s.wantStored(got[c.AttemptID], int64(min(len(c.Data), most)), len(c.Data) > most)
				s.wantLog(builds[i], c.AttemptID, string(c.Data[:min(len(c.Data), most)]), false)
			}
		},
	},
	{
		"Race",
		"However many append to a log at once, it is cut where it has to be.",
		func(s *subject) {
			var text strings.Builder
			for i := range 400 {
				fmt.Fprintf(&text, "line %d\n", i)
			}
			all := text.String()
			for _, limit := range []queue.LogLimit{{Bytes: 1001, Lines: 1000}, {Bytes: 10_000, Lines: 123}} {
				want := all[:min(int64(len(all)), limit.Bytes)]
				if lines := strings.SplitAfterN(want, "\n", int(limit.Lines)+1); len(lines) > int(limit.Lines) {
					want = want[:len(want)-len(lines[limit.Lines])]
				}
				b, id := s.logging()
				s.together(func(ctx context.Context, i int) error {
					for at := 0; ; {
						chunk := queue.LogChunk{AttemptID: id, Offset: int64(at), Data: []byte(all[at:min(len(all), at+17+i)])}
						lengths, err := s.AppendLogs(ctx, []queue.LogChunk{chunk}, limit, s.now)
						if err != nil || len(lengths) != 1 {
							return fmt.Errorf("append returned %v, %w", lengths, err)
						}
						if lengths[0].Cut {
							return nil
						}
						if at = int(lengths[0].Length); at == len(all) {
							return fmt.Errorf("a log of %d bytes is not cut", at)
						}
					}
				})
				s.wantLog(b, id, want, false)
			}
		},
	},
}

// logging returns a build that runs, and its attempt.
func (s *subject) logging() (queue.NewBuild, queue.AttemptID) {
	s.Helper()
	b := s.draft()
	s.queued(b)
	return b, s.running(b, s.worker())
}

// write appends to an attempt's log, which must count, within a limit.
func (s *subject) write(id queue.AttemptID, offset int64, data string, limit queue.LogLimit) queue.LogLength {
	s.Helper()
	lengths, err := s.AppendLogs(s.ctx, []queue.LogChunk{{AttemptID: id, Offset: offset, Data: []byte(data)}}, limit, s.now)
	s.must(err)
	if len(lengths) != 1 || lengths[0].AttemptID != id {
		s.Fatalf("AppendLogs for %v returned %v", id, lengths)
	}
	return lengths[0]
}

// wantStored reports a log that has another length than the wanted, or is cut and should not be, or the other way.
func (s *subject) wantStored(got queue.LogLength, length int64, cut bool) {
	s.Helper()
	if got.Length != length || got.Cut != cut {
		s.Errorf("%d bytes are stored, cut %t, want %d, %t", got.Length, got.Cut, length, cut)
	}
}
