package queue

import (
	"slices"
	"testing"
)

// What a claim has passed over may still be there, for another worker: nobody takes the class for empty.
func TestFrontsKeepWhatWasPassedOver(t *testing.T) {
	for _, c := range []struct {
		name    string
		claimed []int64
		unknown []ClassID
	}{
		{"all", []int64{12, 5}, nil},
		{"the second alone", []int64{12}, []ClassID{1}},
		{"the second, and one that nobody saw", []int64{12, 8}, []ClassID{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f fronts
			before := f.last()
			f.end(f.begin(), []ClassID{1}, []Front{{Class: 1, Ranks: []int64{5, 12}}}, 32)
			var got []Claimed
			for _, rank := range c.claimed {
				got = append(got, Claimed{Class: 1, Rank: rank})
			}
			f.took([]Demand{{Reach: Reach{Class: 1}, Slots: make([]SessionID, len(got))}}, got)
			stocks, unknown := f.of([]ClassID{1}, 1, before)
			if len(stocks) != 0 || !slices.Equal(unknown, c.unknown) {
				t.Errorf("known is %v, unknown %v, want nothing and %v", stocks, unknown, c.unknown)
			}
		})
	}
}

// A look that ends after one that began later tells nothing new.
func TestFrontsOfALateLook(t *testing.T) {
	var f fronts
	early, late := f.begin(), f.begin()
	f.end(late, []ClassID{1}, []Front{{Class: 1, Ranks: []int64{7}}}, 32)
	f.end(early, []ClassID{1, 2}, []Front{{Class: 1, Ranks: []int64{3}}, {Class: 2, Ranks: []int64{4}}}, 32)
	stocks, _ := f.of([]ClassID{1, 2}, 1, 0)
	want := []stock{{class: 1, first: 7, count: 1}, {class: 2, first: 4, count: 1}}
	if !slices.Equal(stocks, want) || !f.since.Equal(early.begun) {
		t.Errorf("known is %v since %v, want %v since %v", stocks, f.since, want, early.begun)
	}
}
