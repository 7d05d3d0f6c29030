// Package lightmem is the Go client of LightMem, the self-hosted memory server for LLM agents.
//
// A Client speaks to one server. Nothing is opened before the first call:
//
//	memory, err := lightmem.New(lightmem.WithUserID("ann"))
//	answer, err := memory.Retrieve(ctx, "Where does Ann live?")
//	fmt.Println(answer.PackedContext)
//
// Records and answers are the messages of package lightmempb, generated from the server's API. Every failure is an *Error; see there.
package lightmem
