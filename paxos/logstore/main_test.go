package logstore

import (
	"os"
	"testing"

	"github.com/lni/dragonboat/v4/logger"
)

func TestMain(m *testing.M) {
	for _, part := range []string{"tan", "logdb", "config", "dragonboat"} {
		logger.GetLogger(part).SetLevel(logger.ERROR)
	}
	os.Exit(m.Run())
}
