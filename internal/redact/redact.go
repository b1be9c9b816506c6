package redact

import (
	"cmp"
	"slices"
)

const (
	// Marker stands for what is hidden.
	Marker = "[redacted]"
	// MinLength is the shortest secret that is looked for, in bytes.
	MinLength = 6
)

const (
	// piece is how many bytes of a write are looked at together.
	piece = 32 << 10
	// maxWindow bounds the stride of a scan, and with it how often the end of a write is looked at.
	maxWindow = 16
)

// A Redactor replaces secrets in what is written to it and passes the rest on. It is not safe for concurrent use.
//
// It keeps back what may be the beginning of a secret until more has come, which is less than the longest form of one, and uses a
// constant amount of memory beyond that: about 100 KiB and a few times the size of the secrets.
//
// It finds them in the manner of Wu and Manber: a table tells for the last two bytes of a window, which is as long as the shortest form,
// how far the window can be moved on. In a text without secrets that is by its whole length for the most part.
type Redactor struct {
	emit func([]byte)

	window  int                 // the length of the shortest form, at most maxWindow; zero if there is none
	shift   []uint8             // by the last two bytes of a window: the number of places where no form begins
	ends    map[uint16][]string // forms by the last two bytes of the window at their beginning; longer ones first
	opening map[string]bool     // beginnings of forms that are shorter than the window

	buf     []byte // what was kept back, and then what is looked at
	covered int    // bytes at the beginning of buf that are part of a secret; a Marker stands for them already
	hiding  bool   // a Marker was passed on last
}

// New returns a Redactor of secrets, in any order, that passes on to emit what may be seen. Each call of emit has one byte at least, and
// must not keep the slice.
func New(secrets []string, emit func([]byte)) *Redactor {
	r := &Redactor{emit: emit}
	all := forms(secrets)
	if len(all) == 0 {
		return r
	}
	shortest := slices.MinFunc(all, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	r.window = min(len(shortest), maxWindow)
	r.shift = make([]uint8, 1<<16)
	for i := range r.shift {
		r.shift[i] = uint8(r.window - 1)
	}
	r.ends = make(map[uint16][]string)
	r.opening = make(map[string]bool)
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, form := range all {
		r.learn(form)
	}
	r.buf = make([]byte, 0, piece+len(all[0]))
	return r
}

func (r *Redactor) learn(form string) {
	for end := 2; end <= r.window; end++ {
		at := &r.shift[pair(form[end-2], form[end-1])]
		*at = min(*at, uint8(r.window-end))
	}
	last := pair(form[r.window-2], form[r.window-1])
	r.ends[last] = append(r.ends[last], form)
	for n := 1; n < r.window; n++ {
		r.opening[form[:n]] = true
	}
}

func pair(a, b byte) uint16 { return uint16(a)<<8 | uint16(b) }

// Write takes all of p, and never fails.
func (r *Redactor) Write(p []byte) (int, error) {
	n := len(p)
	if r.window == 0 {
		r.put(p)
		return n, nil
	}
	for len(p) > 0 {
		k := min(len(p), piece)
		r.buf = append(r.buf, p[:k]...)
		p = p[k:]
		r.pass(false)
	}
	return n, nil
}

// Flush passes on what was kept back: what has come so far is the end of the stream. What is written after that is another stream.
func (r *Redactor) Flush() {
	r.pass(true)
	r.hiding = false
}

// pass looks at what there is, and passes on all of it that can be judged.
func (r *Redactor) pass(last bool) {
	i, n := 0, len(r.buf)
	settled := r.covered // up to where something was passed on
	for i+r.window <= n && r.window > 0 {
		key := pair(r.buf[i+r.window-2], r.buf[i+r.window-1])
		if skip := r.shift[key]; skip > 0 {
			i += int(skip)
			continue
		}
		length, more := match(r.ends[key], r.buf[i:])
		if more && !last {
			break
		}
		if length > 0 {
			settled = r.hide(settled, i, i+length)
		}
		i++
	}
	keep := n
	if !last {
		keep = r.undecided(i)
	}
	if settled < keep {
		r.show(r.buf[settled:keep])
	}
	r.covered = max(settled-keep, 0)
	r.buf = append(r.buf[:0], r.buf[keep:]...)
}

// match returns the length of the longest of forms that rest begins with, or zero, and whether one that is longer may follow. Longer forms
// come first.
func match(forms []string, rest []byte) (length int, more bool) {
	for _, form := range forms {
		n := min(len(form), len(rest))
		switch {
		case string(rest[:n]) != form[:n]:
		case n < len(form):
			more = true
		default:
			return n, more
		}
	}
	return 0, more
}

// undecided returns the first place, from i on, where a form may begin of which more has to come.
func (r *Redactor) undecided(i int) int {
	for i < len(r.buf) && len(r.buf)-i < r.window && !r.opening[string(r.buf[i:])] {
		i++
	}
	return min(i, len(r.buf))
}

// hide has a marker stand for buf[from:to], shows what is between settled and that, and returns up to where all is settled now.
func (r *Redactor) hide(settled, from, to int) int {
	if from > settled {
		r.show(r.buf[settled:from])
	}
	if !r.hiding {
		r.put([]byte(Marker))
		r.hiding = true
	}
	return max(settled, to)
}

func (r *Redactor) show(p []byte) {
	r.put(p)
	r.hiding = false
}

func (r *Redactor) put(p []byte) {
	if len(p) > 0 {
		r.emit(p)
	}
}

// Text returns a text with secrets replaced.
func Text(secrets []string, text string) string {
	var out []byte
	r := New(secrets, func(p []byte) { out = append(out, p...) })
	_, _ = r.Write([]byte(text))
	r.Flush()
	return string(out)
}
