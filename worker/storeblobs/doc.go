// Package storeblobs lets a worker.Hub move sources and artifacts through a storage.Store. Neither of those packages knows
// the other; this one knows both.
//
//	hub, err := worker.NewHub(q, storeblobs.New(store), keyauth.New(keys), nil)
package storeblobs
