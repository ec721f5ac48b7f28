// Package params implements the rules of request params: which may be received and sent, in which
// order they are sent, and where they lie in encoded bytes.
package params
