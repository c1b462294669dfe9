package main

import (
	"context"
	"errors"
)

func (p *program) restart(ctx context.Context) error  { return errors.New("not yet") }
func (p *program) failover(ctx context.Context) error { return errors.New("not yet") }
func (p *program) grow(ctx context.Context) error     { return errors.New("not yet") }
func (p *program) idle(ctx context.Context) error     { return errors.New("not yet") }
func (p *program) latency(ctx context.Context) error  { return errors.New("not yet") }
