// Package grammar has the small grammars of HTTP that every layer needs: tokens, field values,
// decimals, and the end of a head.
package grammar
