package fastcgi

import (
	"errors"
	"fmt"
	"io"

	"github.com/gatehouse-go/gatehouse/gateway"
	"github.com/gatehouse-go/gatehouse/internal/grammar"
)

// Caps on what an answer may bring besides its head and body.
const (
	maxStderr  = 64 << 10 // bytes of STDERR that are kept
	maxInterim = 16       // 1xx answers
	maxUnknown = 64 << 10 // bytes in records of unknown types
)

// responseReader is the answer that a Reader or a Client's connection is reading.
type responseReader struct {
	id      uint16                                    // of the request; 0 takes the first that comes
	bare    bool                                      // an answer that may lack the body its length tells of: HEAD's
	interim func(status int, h *gateway.Header) error // takes 1xx answers; nil stands for "drop"
	stderr  func(p []byte)                            // takes STDERR
	res     *gateway.Response                         // whose AppStatus is set at the end
	head    []byte                                    // of a head that came in pieces
	scan    grammar.HeadEnd
	seen    int   // records of the answer
	left    int64 // bytes of the body until Content-Length; -1 stands for unknown
	started bool  // the head is whole
	closed  bool  // the empty STDOUT has come
	ended   bool  // END_REQUEST has come
	broken  bool  // the rest of the input is of no use
	dirty   bool  // the answer broke a rule that does not spoil it, but the connection
	logged  int   // bytes of STDERR
	unknown int   // bytes in records of unknown types
	end     End
	err     error // what Body returns from now on
}

// reset makes a ready for another answer; it keeps its memory.
func (a *responseReader) reset() { *a = responseReader{head: a.head[:0]} }

// ReadResponse reads the next answer's head into res, which it resets first; see gateway.ConsumeResponse for what it
// takes. Interim answers (1xx) are passed over. res.Body reads from r, gives content as it arrives and is valid until
// the next call on r; Close drops the rest of the answer. Body gives io.EOF after END_REQUEST alone, or after the empty
// STDOUT that ends the output if the connection is then closed; after io.EOF res.AppStatus and End are set.
//
// io.EOF: no answer follows. gateway.ErrTruncated: the answer broke off. *End: the application refused the request.
// gateway.ErrTooLarge: a head over MaxHeadBytes. gateway.ErrMalformed: anything else that is no answer, 101 included.
func (r *Reader) ReadResponse(res *gateway.Response) error {
	res.Reset()
	if err := r.response.discard(&r.rec); err != nil {
		return err
	}
	r.response.reset()
	if r.Stderr != nil {
		r.response.stderr = func(p []byte) { r.Stderr.Write(p) }
	}
	if err := r.response.readHead(&r.rec, res, orDefault(r.MaxHeadBytes, defaultAnswerHead)); err != nil {
		res.Reset()
		return err
	}
	// Nobody told us the method: an answer with no body at all may be one to HEAD.
	r.response.bare = true
	res.Body = &r.body
	return nil
}

// discard reads to the end of an answer that was begun.
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

// step reads until output has arrived (content) or the answer ends (err is then what Body returns).
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

// advance reads the next record's header and takes the record.
func (a *responseReader) advance(rec *recordReader) {
	h, err := rec.next()
	if err == io.EOF && a.closed && a.started {
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

// fail settles what Body returns from now on. After END_REQUEST the connection is still good.
func (a *responseReader) fail(err error) {
	a.broken = !a.ended
	if err == io.ErrUnexpectedEOF || err == io.EOF && !a.ended && a.seen > 0 {
		err = fmt.Errorf("fastcgi: %w", gateway.ErrTruncated)
	}
	a.err = err
}

// atEnd is what Body returns when the answer is over.
func (a *responseReader) atEnd() error {
	if a.left > 0 && !a.bare {
		return fmt.Errorf("fastcgi: body shorter than Content-Length: %w", gateway.ErrTruncated)
	}
	return io.EOF
}

// record takes one record. Content of STDOUT is left in rec.
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

// readHead reads the answer's head into res, and past interim answers.
func (a *responseReader) readHead(rec *recordReader, res *gateway.Response, limit int) error {
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
	return fmt.Errorf("fastcgi: more than %d interim answers: %w", maxInterim, gateway.ErrMalformed)
}

// oneHead reads up to the end of one head. A head that lies whole in the buffer is read where it lies; one that comes
// in pieces is gathered, and none of it is looked at twice.
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
			return fmt.Errorf("fastcgi: answer's head over %d bytes: %w", limit, gateway.ErrTooLarge)
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

// read reads the body. When what it gives is the last and the end has arrived too, it says so at once, so that a
// caller that passes the body on can send both together.
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

// lookAhead takes the records that have arrived whole, up to output, whose header alone it takes, or the end.
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
	return nil // the next call gives it
}

// ready reports whether read has something to give without waiting.
func (a *responseReader) ready(rec *recordReader) bool {
	if a.err == nil && (rec.left == 0 || rec.h.Type != TypeStdout) {
		a.lookAhead(rec)
	}
	return a.err != nil || rec.left > 0 && rec.h.Type == TypeStdout && rec.in.Len() > 0
}

// tail waits for the end of an answer whose promised length has come. Output beyond it is cut, and spoils the connection.
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

// Close drops the rest of the answer; it does not close what the Reader reads from.
func (b *responseBody) Close() error {
	err := b.r.response.discard(&b.r.rec)
	b.r.response.err = errClosed
	if errors.Is(err, gateway.ErrTruncated) || err == io.EOF {
		err = nil // there is nothing left to drop
	}
	return err
}

var errClosed = errors.New("fastcgi: read after Close")

// dropBuffered takes what has arrived of an answer that nobody reads, and reports io.EOF if that was all of it.
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
