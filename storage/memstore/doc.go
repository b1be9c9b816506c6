// Package memstore keeps blobs in memory. It is the reference of what a
// storage.Backend does, and a store for tests and examples: everything is lost
// with the process, and nothing limits how much memory it takes.
package memstore
