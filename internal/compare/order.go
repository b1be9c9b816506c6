package main

import "strings"

// orderSize is the size of every order, in bytes of JSON.
const orderSize = 100

// unnumbered is the number of orders that nobody waits for.
const unnumbered = -1

// An order is what a side is given to keep: a build for the one, a job for the other. Doing it is doing nothing.
type order struct {
	N   int64  `json:"n"`
	Pad string `json:"pad"`
}

// Kind names orders to River.
func (order) Kind() string { return "order" }

// padding fills an order up to orderSize; digits of its number come off it.
var padding = strings.Repeat("x", orderSize-len(`{"n":,"pad":""}`))

func newOrder(n int64) order {
	digits := 1
	for rest := n; rest > 9; rest /= 10 {
		digits++
	}
	if n < 0 {
		digits = len("-1")
	}
	return order{N: n, Pad: padding[digits:]}
}

// orders returns n orders nobody waits for.
func orders(n int) []order {
	all := make([]order, n)
	for i := range all {
		all[i] = newOrder(unnumbered)
	}
	return all
}
