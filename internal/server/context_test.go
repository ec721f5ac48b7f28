package server

import (
	"context"
	"testing"
	"testing/synctest"
)

// watches counts calls of Watch.
type watches int

func (w *watches) Watch() { *w++ }

func TestContextWatchesOnce(t *testing.T) {
	var w watches
	c := NewContext(t.Context(), &w)
	if c.Err(); w != 0 {
		t.Error("a context that nothing waits for is watched")
	}
	c.Done()
	c.Done()
	context.AfterFunc(c, func() {})
	if w != 1 {
		t.Errorf("watched %d times, want once", w)
	}
	c.Cancel(context.Canceled)
}

func TestContextCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewContext(t.Context(), new(watches))
		called, stopped := 0, 0
		context.AfterFunc(c, func() { called++ })
		stop := context.AfterFunc(c, func() { stopped++ })
		if !stop() {
			t.Error("stop reports that the function was called")
		}
		c.Cancel(context.Canceled)
		c.Cancel(context.DeadlineExceeded)
		<-c.Done()
		synctest.Wait()
		if c.Err() != context.Canceled || called != 1 || stopped != 0 {
			t.Errorf("%v, called %d times, stopped function called %d times", c.Err(), called, stopped)
		}
		late := 0
		context.AfterFunc(c, func() { late++ })
		if synctest.Wait(); late != 1 {
			t.Error("a function is not called after Cancel")
		}
	})
}

type contextKey struct{}

func TestContextFollowsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.WithValue(t.Context(), contextKey{}, "value"))
		c := NewContext(parent, new(watches))
		if c.Value(contextKey{}) != "value" {
			t.Error("the value of the parent is missing")
		}
		cancel()
		synctest.Wait()
		if c.Err() != context.Canceled {
			t.Errorf("%v after the parent was canceled", c.Err())
		}
	})
}
