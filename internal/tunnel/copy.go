package tunnel

import "io"

// MaxPooled limits the memory that is returned to a pool, in bytes: a pool must not keep what one
// large request needed.
const MaxPooled = 128 << 10

// Ready reports whether the body of a response can be read without waiting. It is false for a body
// that cannot tell.
func Ready(body io.Reader) bool {
	b, ok := body.(interface{ Ready() bool })
	return ok && b.Ready()
}

// CopyBody sends on the body of a response piece by piece as it arrives, each piece followed by a
// flush. If the end arrives with the last bytes, both are sent together. The head does not wait for
// the body.
func CopyBody(w io.Writer, flush func() error, body io.Reader, buf []byte) error {
	if !Ready(body) {
		if err := flush(); err != nil {
			return err
		}
	}
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
	}
}

// Modify calls modify on a response, unless it is nil. After an error or a panic it calls abandon.
func Modify[R any](res *R, modify func(*R) error, abandon func() error) (err error) {
	if modify == nil {
		return nil
	}
	passed := false
	defer func() {
		if !passed {
			abandon()
		}
	}()
	err = modify(res)
	passed = err == nil
	return err
}
