package queue

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A bell is rung by anybody and heard by one. Rings that nobody has heard yet are one.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// Listeners are bells, each for a purpose.
type listeners struct {
	mu    sync.Mutex
	bells map[Purpose][]bell
}

func (l *listeners) add(b bell, purpose Purpose) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bells == nil {
		l.bells = make(map[Purpose][]bell)
	}
	l.bells[purpose] = append(l.bells[purpose], b)
}

func (l *listeners) remove(b bell) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for purpose, bells := range l.bells {
		l.bells[purpose] = slices.DeleteFunc(bells, func(other bell) bool { return other == b })
	}
}

func (l *listeners) ring(purpose Purpose) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.bells[purpose] {
		b.ring()
	}
}

// A pace is how long to wait between looks for something.
type pace struct {
	shortest, longest time.Duration
	current           time.Duration
}

// newPace returns a pace that waits for longest at most, and for a fiftieth of that, or 5 ms, at least.
func newPace(longest time.Duration) pace {
	p := pace{shortest: min(max(longest/50, 5*time.Millisecond), longest), longest: longest}
	p.quicken()
	return p
}

// next returns the wait that begins, and makes the one after it longer.
func (p *pace) next() time.Duration {
	d := p.current
	p.current = min(2*d, p.longest)
	return jitter(d)
}

func (p *pace) quicken() { p.current = p.shortest }

// jitter returns d, give or take a fifth, so that processes do not move in step.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
