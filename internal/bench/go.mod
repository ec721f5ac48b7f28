module github.com/gatehouse-go/gatehouse/internal/bench

go 1.26.0

require github.com/gatehouse-go/gatehouse v0.0.0

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/gatehouse-go/gatehouse => ../..
