// Package together has what several goroutines want at once done in one go, as a database commits in groups: one that comes while others
// are on their way waits for one of them to return, and then goes together with all that came meanwhile. Whoever comes alone waits for
// nobody.
package together
