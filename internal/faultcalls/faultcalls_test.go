package faultcalls_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/slipway-build/slipway/internal/faultcalls"
	"github.com/slipway-build/slipway/queue"
)

// A method that no call is named after was forgotten.
func TestEveryMethodIsCalled(t *testing.T) {
	for method := range reflect.TypeFor[queue.Backend]().Methods() {
		if !slices.ContainsFunc(faultcalls.Calls(), func(c *faultcalls.Call) bool { return c.Name == method.Name }) {
			t.Errorf("there is no call of %s", method.Name)
		}
	}
}
