package ws

// A lane is messages that wait to be written, in order. One that is empty takes no memory, as are most of a connection's time. It is guarded
// by its connection's lock.
type lane struct {
	limit   int
	waiting [][]byte
	room    chan struct{} // closed when a message has left; nil while nobody waits for that
}

// push puts a message in. If there is no room it does not, and returns what is closed when there may be.
func (l *lane) push(data []byte) (room <-chan struct{}) {
	if len(l.waiting) < l.limit {
		l.waiting = append(l.waiting, data)
		return nil
	}
	if l.room == nil {
		l.room = make(chan struct{})
	}
	return l.room
}

// pop takes the oldest message out, if there is any.
func (l *lane) pop() (data []byte, ok bool) {
	if len(l.waiting) == 0 {
		return nil, false
	}
	data, l.waiting[0] = l.waiting[0], nil
	if l.waiting = l.waiting[1:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
	return data, true
}
