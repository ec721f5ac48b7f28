package tunnel

import "os"

// A TempFile is a temporary file. It has no name where the system allows that, so that not even a
// crash leaves it behind.
type TempFile struct {
	*os.File
	gone bool
}

// NewTempFile creates a file in dir, or in os.TempDir if that is empty. Its name begins with
// prefix.
func NewTempFile(dir, prefix string) (*TempFile, error) {
	f, err := os.CreateTemp(dir, prefix)
	if err != nil {
		return nil, err
	}
	return &TempFile{f, os.Remove(f.Name()) == nil}, nil
}

// Remove closes and removes the file.
func (f *TempFile) Remove() {
	f.Close()
	if !f.gone {
		f.gone = os.Remove(f.Name()) == nil
	}
}
