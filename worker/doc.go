// Package worker brings builds to machines: a [Hub] on the side of the service that keeps the queue, an [Agent] on the machines
// that run builds, and the protocol between them.
package worker
