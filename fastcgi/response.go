package fastcgi

import (
	"errors"
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
	"github.com/gatehouse-go/gatehouse/internal/stream"
)

// Limits of a response besides those of its head and body.
const (
	maxStderr  = 64 << 10 // bytes of STDERR that are kept
	maxInterim = 16       // 1xx responses
	maxUnknown = 64 << 10 // bytes in records of unknown types
)

// A responseReader reads one response, for a Reader or a Client's connection.
type responseReader struct {
	id      uint16                                    // of the request; 0 means that of the first record
	bare    bool                                      // the response may lack the body that its length promises, as to HEAD
	strict  bool                                      // only END_REQUEST ends the response: that of an authorizer
	interim func(status int, h *gateway.Header) error // receives 1xx responses; nil means that they are dropped
	stderr  func(p []byte)                            // receives STDERR
	res     *gateway.Response                         // the response whose AppStatus is set at the end
	head    []byte                                    // the bytes of a head that arrived in pieces
	scan    grammar.HeadEnd
	seen    int   // records of the response
	left    int64 // bytes of the body until Content-Length; -1 means unknown
	started bool  // the head is complete
	closed  bool  // the empty STDOUT has arrived
	ended   bool  // END_REQUEST has arrived
	broken  bool  // the rest of the input is unusable
	dirty   bool  // the response is good, but the connection must not be reused
	logged  int   // bytes of STDERR
	unknown int   // bytes in records of unknown types
	end     End
	err     error // what Body returns from now on
}

// reset makes a ready for another response. It keeps its memory.
func (a *responseReader) reset() { *a = responseReader{head: a.head[:0]} }

// ReadResponse reads the head of the next response into res, which it resets first; see
// gateway.ConsumeResponse. Interim responses (1xx) are skipped. res.Body reads from r, returns
// content as it arrives and is valid until the next call on r; Close discards the rest of the
// response. Body returns io.EOF only after END_REQUEST, or after the empty STDOUT if the connection
// is then closed. After io.EOF res.AppStatus and End are set.
//
// io.EOF means that no response follows, gateway.ErrTruncated that the response is incomplete, *End
// that the application refused the request, gateway.ErrTooLarge that the head exceeds MaxHeadBytes,
// and gateway.ErrMalformed that it is not a response, or a 101.
func (r *Reader) ReadResponse(res *gateway.Response) error {
	res.Reset()
	if err := r.response.discard(&r.rec); err != nil {
		return err
	}
	r.response.reset()
	if r.Stderr != nil {
		r.response.stderr = func(p []byte) { r.Stderr.Write(p) }
	}
	if err := r.response.readHead(&r.rec, res, r.MaxHeadBytes); err != nil {
		res.Reset()
		return err
	}
	// A Reader does not know the method: a response without a body may be one to HEAD.
	r.response.bare = true
	res.Body = &r.body
	return nil
}

// discard reads to the end of a response that has begun.
func (a *responseReader) discard(rec *recordReader) error {
	if a.broken {
		return a.err
	}
	a.started, a.left = true, -1
	for a.seen > 0 && !a.ended && !a.broken {
		a.err = nil
		a.advance(rec)
		if a.err == io.EOF && !a.ended {
			return io.EOF
		}
	}
	if a.broken {
		return a.err
	}
	return nil
}

// step reads until output has arrived (content) or the response has ended (err is then what Body
// returns).
func (a *responseReader) step(rec *recordReader) (content []byte, err error) {
	for a.err == nil {
		if rec.left == 0 || rec.h.Type != TypeStdout {
			a.advance(rec)
			continue
		}
		content, err := rec.some()
		if err == nil {
			return content, nil
		}
		a.fail(err)
	}
	return nil, a.err
}

// advance reads the header of the next record and handles the record.
func (a *responseReader) advance(rec *recordReader) {
	h, err := rec.next()
	if err == io.EOF && a.closed && a.started && !a.strict {
		// Some applications end the output and close, without END_REQUEST.
		a.dirty = true
		a.err = a.atEnd()
		return
	}
	if err != nil {
		a.fail(err)
		return
	}
	if err := a.record(rec, h); err != nil {
		a.fail(err)
	}
}

// fail settles what Body returns from now on. After END_REQUEST the connection is still usable.
func (a *responseReader) fail(err error) {
	a.broken = !a.ended
	if err == io.ErrUnexpectedEOF || err == io.EOF && !a.ended && a.seen > 0 {
		err = fmt.Errorf("fastcgi: %w", gateway.ErrTruncated)
	}
	a.err = err
}

// atEnd returns what Body returns when the response is over.
func (a *responseReader) atEnd() error {
	if a.left > 0 && !a.bare {
		return fmt.Errorf("fastcgi: body shorter than Content-Length: %w", gateway.ErrTruncated)
	}
	return io.EOF
}

// record handles one record. Content of STDOUT is left in rec.
func (a *responseReader) record(rec *recordReader, h RecordHeader) error {
	if h.ID == 0 && !h.Type.application() {
		return nil // GET_VALUES_RESULT, UNKNOWN_TYPE
	}
	if a.id == 0 && h.Type.application() {
		a.id = h.ID
	}
	if h.ID != a.id || h.ID == 0 { // rule F6
		return unexpected(h)
	}
	a.seen++
	switch {
	case h.Type == TypeStdout && !a.closed:
		a.closed = h.Length == 0
		return nil
	case h.Type == TypeStderr:
		return a.stderrRecord(rec)
	case h.Type == TypeEnd && h.Length == bodySize:
		return a.endRecord(rec)
	case h.Type > TypeUnknown:
		if a.unknown += int(h.Length); a.unknown <= maxUnknown {
			return nil
		}
	}
	return unexpected(h)
}

func (a *responseReader) stderrRecord(rec *recordReader) error {
	for rec.left > 0 {
		b, err := rec.some()
		if err != nil {
			return err
		}
		if keep := min(len(b), maxStderr-a.logged); keep > 0 {
			if a.stderr != nil {
				a.stderr(b[:keep])
			}
			a.logged += keep
		}
		rec.use(len(b))
	}
	return nil
}

func (a *responseReader) endRecord(rec *recordReader) error {
	content, err := rec.whole()
	if err != nil {
		return err
	}
	a.ended = true
	a.end, _ = ConsumeEnd(content)
	switch {
	case a.end.Status != StatusComplete:
		end := a.end
		return &end
	case !a.started && len(a.head) == 0:
		return fmt.Errorf("fastcgi: END_REQUEST without a head: %w", gateway.ErrMalformed)
	case !a.started:
		return fmt.Errorf("fastcgi: END_REQUEST inside the head: %w", gateway.ErrTruncated)
	}
	if a.res != nil {
		a.res.AppStatus = a.end.AppStatus
	}
	return a.atEnd()
}

// readHead reads the head of the response into res, and skips interim responses.
func (a *responseReader) readHead(rec *recordReader, res *gateway.Response, limit int) error {
	limit = stream.Limit(limit, stream.DefaultResponseHead)
	for range maxInterim + 1 {
		if err := a.oneHead(rec, res, limit); err != nil {
			return err
		}
		switch {
		case res.Status >= 200:
			a.started, a.left, a.res = true, res.ContentLength, res
			return nil
		case res.Status == 101:
			return fmt.Errorf("fastcgi: status 101: %w", gateway.ErrMalformed)
		case a.interim != nil:
			if err := a.interim(res.Status, &res.Header); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("fastcgi: more than %d interim responses: %w", maxInterim, gateway.ErrMalformed)
}

// oneHead reads up to the end of one head. A head that is buffered completely is parsed in place.
// One that arrives in pieces is gathered, and no byte is looked at twice.
func (a *responseReader) oneHead(rec *recordReader, res *gateway.Response, limit int) error {
	a.head, a.scan = a.head[:0], grammar.HeadEnd{}
	for {
		b, err := a.step(rec)
		if err != nil {
			return err
		}
		had := len(a.head)
		var n int
		if had == 0 {
			n, err = gateway.ConsumeResponse(b, res)
		} else {
			a.head = append(a.head, b...)
			if end := a.scan.Find(a.head); end > 0 {
				n, err = gateway.ConsumeResponse(a.head[:end], res)
			}
		}
		switch {
		case max(n, had) > limit || n == 0 && had+len(b) > limit:
			return fmt.Errorf("fastcgi: response head over %d bytes: %w", limit, gateway.ErrTooLarge)
		case err != nil:
			return fmt.Errorf("fastcgi: %w", err)
		case n > 0:
			rec.use(n - had)
			return nil
		}
		if had == 0 {
			a.head = append(a.head, b...)
			a.scan.Find(a.head)
		}
		rec.use(len(b))
	}
}

// read reads the body. If the end has arrived with the last bytes, it returns both at once, so that
// a caller that passes the body on can send them together.
func (a *responseReader) read(rec *recordReader, p []byte) (int, error) {
	for {
		if a.err != nil {
			return 0, a.err
		}
		if a.left == 0 {
			return 0, a.tail(rec)
		}
		if len(p) == 0 {
			return 0, nil
		}
		if rec.left > 0 && rec.h.Type == TypeStdout {
			n, err := a.content(rec, p)
			if n > 0 {
				return n, a.lookAhead(rec)
			}
			a.fail(err)
			continue
		}
		a.advance(rec)
	}
}

func (a *responseReader) content(rec *recordReader, p []byte) (int, error) {
	if a.left > 0 {
		p = p[:min(int64(len(p)), a.left)]
	}
	n, err := rec.read(p)
	a.bare = a.bare && n == 0
	if a.left > 0 {
		a.left -= int64(n)
	}
	return n, err
}

// lookAhead handles complete records that are already buffered, up to END_REQUEST or the header of
// the next STDOUT record.
func (a *responseReader) lookAhead(rec *recordReader) error {
	for a.err == nil {
		h, ok := rec.peek()
		if !ok || !rec.buffered(h) && (h.Type != TypeStdout || h.Length == 0) {
			return nil
		}
		a.advance(rec)
		if rec.left > 0 && h.Type == TypeStdout {
			return nil
		}
	}
	if a.err == io.EOF {
		return io.EOF
	}
	return nil // the next call returns it
}

// ready reports whether read can return without waiting.
func (a *responseReader) ready(rec *recordReader) bool {
	if a.err == nil && (rec.left == 0 || rec.h.Type != TypeStdout) {
		a.lookAhead(rec)
	}
	return a.err != nil || rec.left > 0 && rec.h.Type == TypeStdout && rec.in.Len() > 0
}

// tail waits for the end of a response whose promised length has arrived. Output beyond it is cut,
// and makes the connection unusable.
func (a *responseReader) tail(rec *recordReader) error {
	for a.err == nil {
		if rec.left > 0 && rec.h.Type == TypeStdout {
			a.dirty, a.err = true, io.EOF
			break
		}
		a.advance(rec)
	}
	return a.err
}

// A responseBody is the Body of a Reader's response.
type responseBody struct{ r *Reader }

func (b *responseBody) Read(p []byte) (int, error) {
	return b.r.response.read(&b.r.rec, p)
}

// Close discards the rest of the response. It does not close the source of the Reader.
func (b *responseBody) Close() error {
	err := b.r.response.discard(&b.r.rec)
	b.r.response.err = errClosed
	if errors.Is(err, gateway.ErrTruncated) || err == io.EOF {
		err = nil // there is nothing left to discard
	}
	return err
}

var errClosed = errors.New("fastcgi: read after Close")

// dropBuffered discards what has arrived of a response that is not read to its end. It returns
// io.EOF if the response is complete.
func (a *responseReader) dropBuffered(rec *recordReader) error {
	a.left = -1
	for a.err == nil {
		if rec.in.Len() < rec.left {
			return errClosed
		}
		rec.use(rec.left)
		h, ok := rec.peek()
		if !ok || !rec.buffered(h) {
			return errClosed
		}
		a.advance(rec)
	}
	if a.err != io.EOF {
		return errClosed
	}
	return io.EOF
}
