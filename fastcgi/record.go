package fastcgi

import (
	"encoding/binary"
	"fmt"

	"github.com/gatehouse-go/gatehouse/gateway"
)

// A new record type needs its constant and name here, its place in Type.application and
// Type.stream, and a case in serverConn.application or serverConn.management, in Reader.input and
// in responseReader.record.

// Type is the type of a record, section 8.
type Type uint8

const (
	TypeBegin           Type = 1 + iota // FCGI_BEGIN_REQUEST
	TypeAbort                           // FCGI_ABORT_REQUEST
	TypeEnd                             // FCGI_END_REQUEST
	TypeParams                          // FCGI_PARAMS
	TypeStdin                           // FCGI_STDIN
	TypeStdout                          // FCGI_STDOUT
	TypeStderr                          // FCGI_STDERR
	TypeData                            // FCGI_DATA
	TypeGetValues                       // FCGI_GET_VALUES
	TypeGetValuesResult                 // FCGI_GET_VALUES_RESULT
	TypeUnknown                         // FCGI_UNKNOWN_TYPE
)

var typeNames = [...]string{
	"", "BEGIN_REQUEST", "ABORT_REQUEST", "END_REQUEST", "PARAMS", "STDIN", "STDOUT", "STDERR", "DATA",
	"GET_VALUES", "GET_VALUES_RESULT", "UNKNOWN_TYPE",
}

func (t Type) String() string {
	if t > 0 && int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}

// application reports whether records of type t belong to a request: their id is not 0, section
// 3.3.
func (t Type) application() bool { return TypeBegin <= t && t <= TypeData }

// stream reports whether records of type t carry a stream, which may be cut anywhere, section 3.3.
func (t Type) stream() bool {
	return TypeParams <= t && t <= TypeData
}

// ProtocolStatus is why a request ended, section 5.5. It is not an HTTP status.
type ProtocolStatus uint8

const (
	StatusComplete      ProtocolStatus = iota // FCGI_REQUEST_COMPLETE
	StatusCantMultiplex                       // FCGI_CANT_MPX_CONN
	StatusOverloaded                          // FCGI_OVERLOADED
	StatusUnknownRole                         // FCGI_UNKNOWN_ROLE
)

var statusNames = [...]string{"REQUEST_COMPLETE", "CANT_MPX_CONN", "OVERLOADED", "UNKNOWN_ROLE"}

func (s ProtocolStatus) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("ProtocolStatus(%d)", uint8(s))
}

const (
	headerSize = 8     // bytes of a RecordHeader
	bodySize   = 8     // bytes of the content of BEGIN, END and UNKNOWN_TYPE
	maxContent = 65535 // bytes of a record's content
	maxRecord  = headerSize + maxContent + 255
)

// RecordHeader is the eight bytes before the content of a record, section 3.3.
type RecordHeader struct {
	// Version is 1. When a header is written, 0 means 1.
	Version uint8

	// Type is the type of the record.
	Type Type

	// ID is the id of the request, 0 for management records.
	ID uint16

	// Length is the number of bytes of the content.
	Length uint16

	// Padding is the number of bytes after the content.
	Padding uint8
}

// Record is a record. Content is a view of the Reader's buffer, valid until the next call on the
// Reader, or of the bytes passed to ConsumeRecord.
type Record struct {
	RecordHeader
	Content []byte
}

// AppendHeader appends h with version 1. An h.Version above 1 is gateway.ErrMalformed, and dst is
// returned unchanged.
func AppendHeader(dst []byte, h RecordHeader) ([]byte, error) {
	if h.Version > 1 {
		return dst, fmt.Errorf("fastcgi: version %d: %w", h.Version, gateway.ErrMalformed)
	}
	return appendHeader(dst, h), nil
}

func appendHeader(dst []byte, h RecordHeader) []byte {
	return append(dst,
		1,                         // unsigned char version;
		byte(h.Type),              // unsigned char type;
		byte(h.ID>>8), byte(h.ID), // unsigned char requestIdB1, requestIdB0;
		byte(h.Length>>8), byte(h.Length), // unsigned char contentLengthB1, contentLengthB0;
		h.Padding, // unsigned char paddingLength;
		0)         // unsigned char reserved;
}

// ConsumeHeader reads a header from the start of b. n is 8, 0 if b is shorter, or -1 if the version
// is not 1. The reserved byte is ignored.
func ConsumeHeader(b []byte) (h RecordHeader, n int) {
	if len(b) < headerSize {
		if len(b) > 0 && b[0] != 1 {
			return RecordHeader{Version: b[0]}, -1
		}
		return RecordHeader{}, 0
	}
	h = RecordHeader{
		Version: b[0],
		Type:    Type(b[1]),
		ID:      binary.BigEndian.Uint16(b[2:]),
		Length:  binary.BigEndian.Uint16(b[4:]),
		Padding: b[6],
	}
	if h.Version != 1 { // rule F49
		return h, -1
	}
	return h, headerSize
}

// AppendRecord appends content as a record of type t without padding. The content of a stream
// (PARAMS, STDIN, STDOUT, STDERR, DATA) is split into records of at most 65,535 bytes; content of
// any other type that is longer is gateway.ErrTooLarge. Empty content makes one empty record, which
// ends a stream. A record of a request needs an id other than 0, and a management record the id 0;
// otherwise the error is gateway.ErrMalformed. If there is an error, dst is returned unchanged.
func AppendRecord(dst []byte, t Type, id uint16, content []byte) ([]byte, error) {
	if t.application() == (id == 0) {
		return dst, fmt.Errorf("fastcgi: %v with id %d: %w", t, id, gateway.ErrMalformed)
	}
	if len(content) > maxContent && !t.stream() {
		return dst, fmt.Errorf("fastcgi: %v: %w", t, gateway.ErrTooLarge)
	}
	for first := true; first || len(content) > 0; first = false {
		n := min(len(content), maxContent)
		dst = appendHeader(dst, RecordHeader{Type: t, ID: id, Length: uint16(n)})
		dst = append(dst, content[:n]...)
		content = content[n:]
	}
	return dst, nil
}

// ConsumeRecord reads a record from the start of b. n is its whole size including padding, 0 if b
// is shorter, or -1 if the version is not 1. Content is a view of b.
func ConsumeRecord(b []byte) (rec Record, n int) {
	h, n := ConsumeHeader(b)
	if n <= 0 {
		return Record{RecordHeader: h}, n
	}
	content := n + int(h.Length)
	end := content + int(h.Padding) // rule F4
	if len(b) < end {
		return Record{}, 0
	}
	return Record{h, b[n:content:content]}, end
}

// Begin is the content of BEGIN_REQUEST, section 5.1. The id is that of the record.
type Begin struct {
	// Role is what the application is asked to do.
	Role gateway.Role

	// KeepConn is FCGI_KEEP_CONN: the web server closes the connection, not the application.
	KeepConn bool
}

// AppendBegin appends a whole BEGIN_REQUEST record. It is unpadded: libfcgi loses the params after
// a padded one. Id 0 is ErrMalformed.
func AppendBegin(dst []byte, id uint16, b Begin) ([]byte, error) {
	if id == 0 {
		return dst, fmt.Errorf("fastcgi: BEGIN_REQUEST with id 0: %w", gateway.ErrMalformed)
	}
	var flags byte
	if b.KeepConn {
		flags = 1 // FCGI_KEEP_CONN
	}
	dst = appendHeader(dst, RecordHeader{Type: TypeBegin, ID: id, Length: bodySize})
	return append(dst,
		byte(b.Role>>8), byte(b.Role), // unsigned char roleB1, roleB0;
		flags,              // unsigned char flags;
		0, 0, 0, 0, 0), nil // unsigned char reserved[5];
}

// ConsumeBegin reads the content of a BEGIN_REQUEST. n is 8, or 0 if content is shorter. Reserved
// bytes and other flags are ignored.
func ConsumeBegin(content []byte) (b Begin, n int) {
	if len(content) < bodySize {
		return Begin{}, 0
	}
	return Begin{Role: gateway.Role(binary.BigEndian.Uint16(content)), KeepConn: content[2]&1 != 0}, bodySize
}

// End is the content of an END_REQUEST record, section 5.5. A *End is also the error of a Client
// and of Reader.ReadResponse if Status is not StatusComplete.
type End struct {
	// AppStatus is the exit status of the application.
	AppStatus uint32

	// Status is why the request ended.
	Status ProtocolStatus
}

// AppendEnd appends a whole END_REQUEST record. Id 0 is ErrMalformed.
func AppendEnd(dst []byte, id uint16, e End) ([]byte, error) {
	if id == 0 {
		return dst, fmt.Errorf("fastcgi: END_REQUEST with id 0: %w", gateway.ErrMalformed)
	}
	dst = appendHeader(dst, RecordHeader{Type: TypeEnd, ID: id, Length: bodySize})
	dst = binary.BigEndian.AppendUint32(dst, e.AppStatus) // unsigned char appStatusB3 … appStatusB0;
	return append(dst, byte(e.Status), 0, 0, 0), nil      // unsigned char protocolStatus, reserved[3];
}

// ConsumeEnd reads the content of an END_REQUEST. n is 8, or 0 if content is shorter. PHP leaves
// stale memory in the reserved bytes.
func ConsumeEnd(content []byte) (e End, n int) {
	if len(content) < bodySize {
		return End{}, 0
	}
	return End{AppStatus: binary.BigEndian.Uint32(content), Status: ProtocolStatus(content[4])}, bodySize
}

func (e *End) Error() string {
	return fmt.Sprintf("fastcgi: application ended the request with %v", e.Status)
}

// Is makes errors.Is(e, gateway.ErrRefused) true for StatusOverloaded and StatusCantMultiplex.
func (e *End) Is(target error) bool {
	return target == gateway.ErrRefused && (e.Status == StatusOverloaded || e.Status == StatusCantMultiplex)
}

var errVersion = fmt.Errorf("fastcgi: version of a record is not 1: %w", gateway.ErrMalformed)
