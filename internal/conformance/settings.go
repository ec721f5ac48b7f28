package conformance

import (
	"reflect"
	"testing"
)

// fields yields the exported fields of the struct to which p points.
func fields(p any, yield func(name string, v reflect.Value)) {
	s := reflect.ValueOf(p).Elem()
	for i := range s.NumField() {
		if f := s.Type().Field(i); f.IsExported() {
			yield(f.Name, s.Field(i))
		}
	}
}

// Fill gives each exported number of the struct to which p points a value of its own, and sets the
// bools.
func Fill(p any) {
	n := int64(100)
	fields(p, func(_ string, v reflect.Value) {
		switch {
		case v.CanInt():
			n++
			v.SetInt(n)
		case v.Kind() == reflect.Bool:
			v.SetBool(true)
		}
	})
}

// Negative sets each exported number of the struct to which p points to -1.
func Negative(p any) {
	fields(p, func(_ string, v reflect.Value) {
		if v.CanInt() {
			v.SetInt(-1)
		}
	})
}

// SameSettings fails t if a number or a bool of the struct to which core points differs from the
// field of the same name of the struct to which p points.
func SameSettings(t *testing.T, core, p any) {
	t.Helper()
	settings := make(map[string]any)
	fields(p, func(name string, v reflect.Value) { settings[name] = v.Interface() })
	compared := 0
	fields(core, func(name string, v reflect.Value) {
		want, found := settings[name]
		if !found || !v.CanInt() && v.Kind() != reflect.Bool {
			return
		}
		compared++
		if v.Interface() != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	})
	if compared < 4 {
		t.Errorf("only %d fields were compared", compared)
	}
}
