// Package params has the rules of request params: which may be received and sent, where they lie in the bytes of a wire,
// and in which order a head has them. It works on the lists behind gateway.Params, so that package gateway can use it.
package params
