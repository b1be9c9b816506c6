// Package modeltest holds implementations of one interface against each other: package memqueue, which is simple enough to be right, is the
// model for the SQL backends of package queue.
package modeltest
