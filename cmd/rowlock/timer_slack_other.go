//go:build !linux

package main

// widenTimerSlack does nothing: only Linux has timer slacks.
func widenTimerSlack() {}
