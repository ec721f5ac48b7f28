package params

import "errors"

// Package gateway names these errors and limits, and documents them.
var (
	ErrMalformed = errors.New("malformed message")
	ErrTooLarge  = errors.New("head too large")
	ErrParam     = errors.New("invalid param")
)

// Limits of one head.
const (
	MaxPairs      = 1000     // params of a request, fields of a response
	MaxNameBytes  = 8 << 10  // bytes of a name
	MaxValueBytes = 64 << 10 // bytes of a value
)
