// Package auth decides who may call a Slipway service: keys, the roles behind
// them, and the middleware that checks them.
//
// A [Keys] is the front end over a [Backend] that stores keys. [Keys.Create]
// issues a key and returns its text exactly once; [Keys.Authenticate] turns a
// presented text into a [Principal], who may do what the [Role] of the key
// allows, in the project and pools of the key:
//
//	role       may                       where
//	admin      all but connect and enrol in every project and pool
//	submitter  read, submit, cancel      in its project; in its pools, or all its host grants
//	viewer     read                      in its project
//	worker     connect                   in its pools, of which there is at least one
//	enroller   enrol                     workers of its name or pattern, in its pools
//
// A service mounts it in a few lines:
//
//	keys, err := auth.New(memauth.New(), &auth.Options{AdminKey: auth.NewSecret(adminKey)})
//	…
//	mux.Handle("POST /builds", keys.Middleware(submit))
//
// and asks in the handler:
//
//	p, _ := auth.FromContext(r.Context())
//	if err := p.Authorize(auth.Submit, project); err != nil { … }
//
// # Enrolment
//
// A key of role enroller is an enrolment token. It is no credential: all it is good for
// is [Keys.Enrol], which exchanges it for the key of a worker. The worker makes the
// secret of that key itself, as a [Draft], and sends the hash. Neither what is on the
// wire nor what the service stores is enough to be that worker, and a worker that
// loses the answer asks again with the same draft and gets the same key. A token is for
// workers of one name, or of names with one beginning, for a number of them and for a
// time that goes by the clock of the store. A name that has a good key is refused.
//
// # What it guarantees
//
// A key is slw_<kind>_<id>_<secret><crc> with a secret of 256 random bits. Only
// the SHA-256 of the secret is stored. It is compared in constant time, and with
// something random if there is no such key. An unknown, wrong, expired or revoked
// key is the same error, [ErrUnauthenticated]. Nothing is cached: a key is refused
// from the moment its revocation is stored. The one key that is set by hand, the
// static admin key, has to pass [CheckStrength]. An absent or empty credential is
// refused before it is compared with anything. No error, log line or printed value
// of this package holds a secret.
//
// # What it does not
//
// It does not limit rates, and it does not check that a project or a pool exists,
// nor whether a project is granted a pool: that is the host's to know. It reads
// credentials from the Authorization header alone; transport security is the
// server's. What a key has let in before it was revoked, such as an open connection of
// a worker, is the host's to end.
//
// # Implementing a Backend
//
// A [Backend] is seven operations, six of them on records and atomic. The front end
// validates, makes ids and secrets, hashes, compares and judges; a backend stores what
// it is given, counts the uses of enrollers, and never sees a secret. The contract is the comments of [Backend];
// [github.com/slipway-build/slipway/auth/authtest.Run] checks it.
//
// # Testing
//
// Package memauth keeps keys in memory and serves tests of programs that use
// auth. The expiry of a key follows [time.Now], so such tests can run in a bubble
// of [testing/synctest].
package auth
