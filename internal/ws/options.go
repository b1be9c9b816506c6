package ws

import "time"

// Options are the settings of a connection.
type Options struct {
	// Subprotocols are the names that this side speaks, best first. A connection needs one in common. Required.
	Subprotocols []string
	// MaxMessage is the largest message that is read, in bytes. A larger one ends the connection with 1009. Default: 1 MiB.
	MaxMessage int64
	// ReadTimeout is how long the peer may take from one frame to the next, and to get a message through whole; pings count.
	// [Conn.SetReadTimeout] changes it. Default: 30 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long one message may take to write, and a full control lane to get room again. Default: 10 s.
	WriteTimeout time.Duration
	// HandshakeTimeout is how long [Dial] may take as a whole, and [Accept] to answer. Default: 10 s.
	HandshakeTimeout time.Duration
	// CloseTimeout is how long an end may take: to write what waits in the control lane, to say why, and to hear the peer confirm it.
	// Default: 5 s.
	CloseTimeout time.Duration
	// ControlLane and LogLane are how many messages of each kind may wait to be written. Defaults: 64 and 16.
	ControlLane int
	LogLane     int
}

// withDefaults returns a copy of o, which may be nil, with every field set.
func (o *Options) withDefaults() Options {
	var full Options
	if o != nil {
		full = *o
	}
	orDefault(&full.MaxMessage, 1<<20)
	orDefault(&full.ReadTimeout, 30*time.Second)
	orDefault(&full.WriteTimeout, 10*time.Second)
	orDefault(&full.HandshakeTimeout, 10*time.Second)
	orDefault(&full.CloseTimeout, 5*time.Second)
	orDefault(&full.ControlLane, 64)
	orDefault(&full.LogLane, 16)
	return full
}

func orDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}
