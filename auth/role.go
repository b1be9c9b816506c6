package auth

// A Role is what a key is for. The zero Role may do nothing.
type Role string

// The roles.
const (
	Admin     Role = "admin"
	Submitter Role = "submitter"
	Viewer    Role = "viewer"
	Worker    Role = "worker"
	// Enroller is the role of enrolment tokens: whoever has one can make keys for
	// workers, and do nothing else. See [Keys.Enrol].
	Enroller Role = "enroller"
)

// A Permission is one kind of thing a role may do.
type Permission string

// The permissions.
const (
	// Read is to see builds, logs, artifacts and the state of the queue.
	Read Permission = "read"
	// Submit is to submit builds and upload their sources.
	Submit Permission = "submit"
	// Cancel is to cancel builds.
	Cancel Permission = "cancel"
	// Manage is to create and revoke keys and to administer projects, pools and workers.
	Manage Permission = "manage"
	// Connect is to open a worker's session. Admins do not have it: a session
	// belongs to a named worker.
	Connect Permission = "connect"
	// Enrol is to exchange an enrolment token for the key of a worker.
	Enrol Permission = "enrol"
)

// permissions is the one table of who may do what.
var permissions = map[Role]map[Permission]bool{
	Admin:     {Read: true, Submit: true, Cancel: true, Manage: true},
	Submitter: {Read: true, Submit: true, Cancel: true},
	Viewer:    {Read: true},
	Worker:    {Connect: true},
	Enroller:  {Enrol: true},
}

// roles is what a role must be.
const roles = "must be admin, submitter, viewer, worker or enroller"

// Can reports whether the role has the permission.
func (r Role) Can(p Permission) bool { return permissions[r][p] }

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return permissions[r] != nil }

// kind returns the kind of key that carries the role.
func (r Role) kind() Kind {
	switch r {
	case Worker:
		return KindWorker
	case Enroller:
		return KindEnrol
	default:
		return KindAPI
	}
}
