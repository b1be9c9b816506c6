// Package workertest plays either side of the worker protocol, and holds programs to it, whatever they are written in.
//
// [TestController] is a worker that no controller wants: it goes through what docs/protocol.md says of controllers. [TestWorker] is
// a controller that does the same to workers. Each case is a subtest with a fresh subject, and one that fails prints the sentence of the
// contract that was broken. The subject may be a program in another language:
//
//	func TestProtocol(t *testing.T) {
//		workertest.TestWorker(t, workertest.Program{
//			Start: func(t *testing.T, s workertest.Settings) <-chan struct{} { … run it with s.URL, s.Credential, s.Worker … },
//			Print: func(text string) []byte { return []byte("printf %s '" + text + "'") },
//			Wait:  []byte("echo ready; sleep 3600"),
//		})
//	}
//
// Below the suites are a [Controller] and a [Worker] to script by hand. They say what they are told to say, keep all that arrives, and
// give up after half a minute of waiting, which fails the test.
//
// A [Proxy] between the two is a network in which what is told to go wrong goes wrong, for real programs as well.
//
// # What the suites do not see
//
// A clock that jumps, a machine that sleeps, a database that is down, two controllers on one database: what takes more than one side
// of one connection.
package workertest
