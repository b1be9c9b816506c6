package main

import "testing"

func TestLateness(t *testing.T) {
	if got := lateness([]int{6, 8, 10}); got != 0 {
		t.Errorf("just in time: got %v, want 0", got)
	}
	if got := lateness([]int{2, 9, 5}); got != 1 {
		t.Errorf("the second one claim late: got %v, want 1", got)
	}
	if got := lateness([]int{1, 2}); got != -5 {
		t.Errorf("early: got %v, want -5", got)
	}
}

func TestDeviation(t *testing.T) {
	weights := map[string]int{"a": 1, "b": 1, "c": 2}
	if got := deviation(map[string]float64{"a": 25, "b": 25, "c": 50}, weights); got != 0 {
		t.Errorf("exact shares: got %v, want 0", got)
	}
	if got := deviation(map[string]float64{"a": 30, "c": 70}, weights); got != 25 {
		t.Errorf("one got nothing: got %v, want 25", got)
	}
}
