package workertest

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Direction is one of the two ways through a [Proxy].
type Direction int

// The ways through a proxy.
const (
	ToController Direction = iota
	ToWorker
)

// A Verdict is what becomes of a [Frame].
type Verdict int

// Verdicts. A WebSocket over TCP neither loses nor doubles frames nor has them change places: these stand for programs, and boxes between
// them, that do.
const (
	Pass Verdict = iota
	// Lose drops the frame.
	Lose
	// Double sends the frame twice.
	Double
	// Swap sends the frame after the next one.
	Swap
)

// Counts are how often what a [Proxy] was told to do has happened.
type Counts struct {
	Connections int   // that went through
	Refused     int   // connections that did not
	Cut         int   // connections that were broken, of either kind
	Frames      int   // of WebSockets that were looked at
	Lost        int   // frames
	Doubled     int   // frames
	Swapped     int   // frames
	Held        int   // times that bytes stood still
	Swallowed   int64 // bytes of dead connections that nobody got
}

// A Proxy is a network between workers and a controller, in which what is told to go wrong goes wrong. It leads TCP connections to one
// address, understands enough of WebSocket to act on single frames, and encrypts nothing. It is safe for concurrent use.
type Proxy struct {
	listener net.Listener
	pumps    sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed when anything of this changes
	target  string
	refuse  bool
	held    [2]bool
	rate    [2]int // bytes a second; zero is no bound
	delay   time.Duration
	budget  int64 // bytes until all is cut; negative is no bound
	judge   func(Frame) Verdict
	pairs   map[*pair]bool
	counts  Counts
	closed  bool
}

// StartProxy starts a proxy on a port of the loopback interface, for the server at an http:// URL. Whoever starts it calls Close.
func StartProxy(target string) (*Proxy, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		return nil, errors.New("workertest: the target must be a URL such as http://127.0.0.1:8080")
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, target: u.Host, changed: make(chan struct{}), budget: -1, pairs: make(map[*pair]bool)}
	p.pumps.Go(p.accept)
	return p, nil
}

// URL returns where the proxy is found.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

// Close breaks all connections and returns when nothing of the proxy is left.
func (p *Proxy) Close() {
	p.change(func() { p.closed = true })
	_ = p.listener.Close()
	p.Cut()
	p.pumps.Wait()
}

// Counts returns how often what has happened.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Lead leads connections to another server from now on. Those that there are stay.
func (p *Proxy) Lead(target string) {
	p.change(func() { p.target = strings.TrimPrefix(target, "http://") })
}

// Refuse breaks new connections at once, or lets them through again.
func (p *Proxy) Refuse(on bool) { p.change(func() { p.refuse = on }) }

// Hold has bytes stand still in these directions, or both if none is named, in all connections and those to come. Nobody is told; Release
// lets them go on, all of them.
func (p *Proxy) Hold(directions ...Direction) {
	if len(directions) == 0 {
		directions = []Direction{ToController, ToWorker}
	}
	p.change(func() {
		for _, d := range directions {
			p.held[d] = true
		}
	})
}

// Release ends a Hold.
func (p *Proxy) Release() { p.change(func() { p.held = [2]bool{} }) }

// Throttle bounds how many bytes a second each connection gets through; zero ends that.
func (p *Proxy) Throttle(d Direction, bytes int) { p.change(func() { p.rate[d] = bytes }) }

// Delay has each piece of each connection, of 32 KiB at most, wait so long.
func (p *Proxy) Delay(d time.Duration) { p.change(func() { p.delay = d }) }

// CutAfter cuts all connections once so many bytes more have gone through, however they are spread. A negative number takes that back.
func (p *Proxy) CutAfter(bytes int64) { p.change(func() { p.budget = bytes }) }

// Judge has a function decide about each frame of each WebSocket; nil lets all pass. It is called by several goroutines.
func (p *Proxy) Judge(judge func(Frame) Verdict) { p.change(func() { p.judge = judge }) }

// Cut breaks all connections, so that both ends are told.
func (p *Proxy) Cut() { p.end((*pair).cut) }

// Deaden has all connections end without a word: nothing goes through, and neither end is told. New connections are as they were.
func (p *Proxy) Deaden() { p.end((*pair).deaden) }

// Orphan breaks the workers' ends of all connections and leaves the controller's open, as a network does that has lost a worker.
func (p *Proxy) Orphan() { p.end((*pair).orphan) }

// end does away with all connections in some way.
func (p *Proxy) end(how func(*pair)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		if !c.dead || p.closed {
			p.counts.Cut++
		}
		how(c)
	}
	p.tell()
}

// change changes something that pumps wait for or go by.
func (p *Proxy) change(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	p.tell()
}

// tell has all pumps look. The caller holds the lock.
func (p *Proxy) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept() {
	for {
		worker, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.pumps.Go(func() { p.connect(worker) })
	}
}

// connect leads a connection through.
func (p *Proxy) connect(worker net.Conn) {
	p.mu.Lock()
	target, refuse := p.target, p.refuse || p.closed
	p.mu.Unlock()
	var controller net.Conn
	var err error
	if !refuse {
		controller, err = (&net.Dialer{Timeout: 10 * time.Second}).Dial("tcp", target)
	}
	if refuse || err != nil {
		p.change(func() { p.counts.Refused++ })
		abort(worker)
		return
	}
	c := &pair{ends: [2]net.Conn{ToController: worker, ToWorker: controller}, gone: make(chan struct{})}
	p.mu.Lock()
	p.pairs[c] = true
	p.counts.Connections++
	closed := p.closed
	p.mu.Unlock()
	if closed {
		c.cut()
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(c, ToController) })
	both.Go(func() { p.pump(c, ToWorker) })
	both.Wait()
	_ = c.ends[ToController].Close()
	_ = c.ends[ToWorker].Close()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}

// abort closes a connection so that the other end gets an error rather than an end.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// A pair is a connection through a proxy: what comes from ends[d] goes in direction d.
type pair struct {
	ends [2]net.Conn
	gone chan struct{} // closed when the connection is no more
	once sync.Once
	dead bool // what comes is swallowed; under the lock of the proxy

	upgrade atomic.Bool // the worker asked for a WebSocket
}

// closeWrite tells an end that nothing more comes in that direction.
func (c *pair) closeWrite(d Direction) {
	if tcp, ok := c.ends[1-d].(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // one that is gone need not be told
	}
}

func (c *pair) cut() {
	c.once.Do(func() { close(c.gone) })
	abort(c.ends[ToController])
	abort(c.ends[ToWorker])
}

func (c *pair) deaden() { c.dead = true }

func (c *pair) orphan() {
	c.dead = true
	abort(c.ends[ToController])
}
