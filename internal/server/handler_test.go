package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/gatehouse-go/gatehouse/gateway"
)

func TestCallHandler(t *testing.T) {
	var log bytes.Buffer
	logger := func() *slog.Logger { return slog.New(slog.NewTextHandler(&log, nil)) }
	call := func(f gateway.HandlerFunc) error { return CallHandler(f, nil, new(gateway.Request), logger) }

	if err := call(func(gateway.ResponseWriter, *gateway.Request) error { return io.EOF }); err != io.EOF || log.Len() > 0 {
		t.Errorf("an error became %v, and %q was logged", err, &log)
	}
	err := call(func(gateway.ResponseWriter, *gateway.Request) error { panic("boom") })
	if !errors.Is(err, ErrPanic) || !strings.Contains(log.String(), "boom") {
		t.Errorf("a panic became %v, and %q was logged", err, &log)
	}
}

func TestRefusal(t *testing.T) {
	for err, want := range map[error]int{
		ErrNoHandler:         501,
		gateway.ErrTooLarge:  431,
		gateway.ErrParam:     400,
		gateway.ErrRefused:   503,
		gateway.ErrMalformed: 0,
		io.ErrUnexpectedEOF:  0,
	} {
		if got := Refusal(fmt.Errorf("scgi: %w", err)); got != want {
			t.Errorf("%v: %d, want %d [F49]", err, got, want)
		}
	}
}
