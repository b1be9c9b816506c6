package wire

// A Type is the name of a message on the wire, "t" in its envelope.
type Type string

// The types of version 1.
const (
	TypeHello       Type = "hello"
	TypeWelcome     Type = "welcome"
	TypeOffer       Type = "offer"
	TypeAccept      Type = "accept"
	TypeDecline     Type = "decline"
	TypeStart       Type = "start"
	TypeState       Type = "state"
	TypeHeartbeat   Type = "heartbeat"
	TypeHeartbeatOK Type = "heartbeat_ok"
	TypeLogAck      Type = "log_ack"
	TypeLogNack     Type = "log_nack"
	TypeLogLimit    Type = "log_limit"
	TypeCancel      Type = "cancel"
	TypeCancelling  Type = "cancelling"
	TypeFinished    Type = "finished"
	TypeFinishedOK  Type = "finished_ok"
	TypeDrain       Type = "drain"
	TypePause       Type = "pause"
	TypeResume      Type = "resume"
	TypeError       Type = "error"
	TypeBye         Type = "bye"
)

// A Message is a pointer to one of the message structs of this package, such as [*Offer], or an [*Unknown].
// No other package implements it.
type Message interface {
	// Type returns the name of the message on the wire.
	Type() Type
	check(c *checker)
}

// New returns an empty message of the type, or nil if this version does not know it.
func (t Type) New() Message {
	if create, ok := messages[t]; ok {
		return create()
	}
	return nil
}

var messages = map[Type]func() Message{
	TypeHello:       func() Message { return new(Hello) },
	TypeWelcome:     func() Message { return new(Welcome) },
	TypeOffer:       func() Message { return new(Offer) },
	TypeAccept:      func() Message { return new(Accept) },
	TypeDecline:     func() Message { return new(Decline) },
	TypeStart:       func() Message { return new(Start) },
	TypeState:       func() Message { return new(StateReport) },
	TypeHeartbeat:   func() Message { return new(Heartbeat) },
	TypeHeartbeatOK: func() Message { return new(HeartbeatOK) },
	TypeLogAck:      func() Message { return new(LogAck) },
	TypeLogNack:     func() Message { return new(LogNack) },
	TypeLogLimit:    func() Message { return new(LogLimit) },
	TypeCancel:      func() Message { return new(Cancel) },
	TypeCancelling:  func() Message { return new(Cancelling) },
	TypeFinished:    func() Message { return new(Finished) },
	TypeFinishedOK:  func() Message { return new(FinishedOK) },
	TypeDrain:       func() Message { return new(Drain) },
	TypePause:       func() Message { return new(Pause) },
	TypeResume:      func() Message { return new(Resume) },
	TypeError:       func() Message { return new(Error) },
	TypeBye:         func() Message { return new(Bye) },
}

// Unknown stands for a message of a type that this version does not know, and which its sender lets be ignored.
// It cannot be encoded.
type Unknown struct {
	// Name is the type that was sent: 1 to [MaxToken] letters a-z, digits and underscores.
	Name Type
}

// Type implements [Message].
func (m *Unknown) Type() Type { return m.Name }

func (m *Unknown) check(c *checker) { c.fail("", "is not a type of this version") }

// wellFormed reports whether t has the form of a type's name.
func (t Type) wellFormed() bool {
	for i := range len(t) {
		if c := t[i]; c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return t != "" && len(t) <= MaxToken
}
