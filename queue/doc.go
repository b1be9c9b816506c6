// Package queue is a build queue that a Go service embeds.
package queue
