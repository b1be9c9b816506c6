// Package keyauth lets a worker.Hub know its workers by the keys of package auth. Neither of those packages knows the other; this
// one knows both.
package keyauth
