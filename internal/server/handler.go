package server

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// Errors of a handler, or of a goroutine that it left behind.
var (
	ErrOver      = errors.New("gateway: used after the handler returned")
	ErrGoexit    = errors.New("gateway: handler called runtime.Goexit")
	ErrPanic     = fmt.Errorf("gateway: %w", gateway.ErrPanic)
	ErrNoHandler = errors.New("gateway: the server has no Handler")
)

// CallHandler calls h. A panic is logged and becomes ErrPanic.
func CallHandler(h gateway.Handler, w gateway.ResponseWriter, r *gateway.Request, logger func() *slog.Logger) (err error) {
	defer func() {
		if v := recover(); v != nil {
			LogRequest(logger(), slog.LevelError, "handler panicked", r, slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = ErrPanic
		}
	}()
	return h.ServeGateway(w, r)
}

// Refusal returns the status with which a request is refused before a handler runs. It returns 0 if
// err means that the bytes are not a request: then there is no response (F49).
func Refusal(err error) int {
	switch {
	case errors.Is(err, ErrNoHandler):
		return 501
	case errors.Is(err, gateway.ErrTooLarge), errors.Is(err, gateway.ErrParam), errors.Is(err, gateway.ErrRefused):
		return gateway.ErrorStatus(err)
	}
	return 0
}
