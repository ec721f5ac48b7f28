// Package bench measures gatehouse beside other libraries for the same protocols. It is a module of
// its own, so that what it measures against never reaches the go.sum of a user.
package bench
