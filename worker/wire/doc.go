// Package wire is the Go form of Slipway's worker protocol, version 1: what a controller (C) and a worker (W) say to each
// other over one WebSocket connection, and nothing of how they act on it. That is in docs/protocol.md, from which workers in other languages
// are written.
//
// Text frames hold one [Message] each, as a JSON object: {"t":"offer","d":{…}}. Binary frames hold log bytes, see [LogFrame].
//
//	type            way  meaning
//	hello           W→C  who the worker is and what it runs; the first frame
//	welcome         C→W  the session, its limits, and what becomes of each attempt in hello
//	offer           C→W  a build the worker may take; nothing starts
//	accept          W→C  the worker takes it, with the hash of the build token it made
//	decline         W→C  the worker does not
//	start           C→W  the lease is the worker's; the attempt may run
//	state           W→C  how far the attempt is
//	heartbeat       W→C  the attempts the worker holds, and how busy it is
//	heartbeat_ok    C→W  every lease renewed, lost, or to be canceled
//	log_ack         C→W  log bytes are stored up to an offset
//	log_nack        C→W  log bytes are missing from an offset on
//	log_limit       C→W  the log is full; the rest is not stored
//	cancel          C→W  end the attempt
//	cancelling      W→C  the worker is ending it
//	finished        W→C  how the attempt ended
//	finished_ok     C→W  the end is stored; the worker may forget the attempt
//	drain           both accept nothing more; leave when all is finished
//	pause, resume   both accept nothing for a while; go on
//	error           both what was refused, and why
//	bye             both the sender is about to close
//
// # What it guarantees
//
// Whatever [Decode] and [DecodeLog] return keeps every rule that is documented at the message's fields: ids are UUIDs of
// version 7, epochs are positive, names follow [queue.CheckName], lists and texts are within their limits, and texts hold
// no control characters. [Encode] and [EncodeLog] refuse what the other side would refuse. Input of any kind costs memory
// in proportion to its length, which is bounded. Errors never repeat values that the peer sent.
//
// Fields and types that this version does not know are ignored, unless the envelope says "must":true; so either side may
// be newer than the other.
//
// # What it does not
//
// It keeps no connection and no order. A frame may be lost, doubled or late: every effect is acknowledged from the
// controller's database (start, log_ack, finished_ok), hello and welcome put both sides in agreement after every
// reconnect, and each heartbeat_ok says in full how every lease stands.
//
// # Values
//
// Durations are whole milliseconds ([Millis]), times RFC 3339 in UTC, ids UUIDs of version 7, digests lower-case
// hexadecimal, specs base64 with padding. A list or a text that is left out is empty.
package wire
