package wire

// Version is what the server calls itself in the handshake and in @@version.
const Version = "8.0.42-rowlock"

// Variables adds and replaces the engine's system variables. It must run before the first session exists; more than once does
// no harm.
func Variables() error { return nil }
