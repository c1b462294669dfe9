package main

import (
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// envPrefix begins the environment variables of the configuration: the flag
// --lock-wait is ROWLOCK_LOCK_WAIT.
const envPrefix = "ROWLOCK_"

// startConfig is the configuration of a server. The names are those of the
// flags and of the keys of the TOML file.
type startConfig struct {
	Data           string        `koanf:"data"`
	Listen         string        `koanf:"listen"`
	Shards         int           `koanf:"shards"`
	MemoryMB       int64         `koanf:"memory-mb"`
	CacheMB        int64         `koanf:"cache-mb"`
	LockWait       time.Duration `koanf:"lock-wait"`
	Retention      time.Duration `koanf:"retention"`
	MaxConnections int           `koanf:"max-connections"`
	TxnMB          int64         `koanf:"txn-mb"`
	Reserve        int64         `koanf:"reserve"`
	Log            string        `koanf:"log"`
	LogLevel       string        `koanf:"log-level"`
	LogFormat      string        `koanf:"log-format"`
	Insecure       bool          `koanf:"insecure"`
	Cluster        string        `koanf:"cluster"`
	Advertise      string        `koanf:"advertise"`
	Join           string        `koanf:"join"`
	Name           string        `koanf:"name"`
	Zone           string        `koanf:"zone"`
	Certs          string        `koanf:"certs"`
	TLSCert        string        `koanf:"tls-cert"`
	TLSKey         string        `koanf:"tls-key"`
	RequireTLS     bool          `koanf:"require-secure-transport"`
	MoveMB         int64         `koanf:"move-mb"`
	DeadAfter      time.Duration `koanf:"dead-after"`
	Lease          time.Duration `koanf:"lease"`
	LeaseDrift     float64       `koanf:"lease-drift"`
}

func startFlags(flags *pflag.FlagSet) {
	flags.StringP("data", "d", "./rowlock-data", "data directory; made if it does not exist")
	flags.StringP("listen", "l", "127.0.0.1:3306", "address for MySQL clients")
	flags.Int("shards", 16, "number of shards of a new data directory")
	flags.Int64("memory-mb", 0, "memory that sizes are chosen for, in MiB; 0: that of the machine or control group")
	flags.Int64("cache-mb", 0, "caches of stored blocks and rows, in MiB; 0: an eighth of the memory, at most 8192")
	flags.Duration("lock-wait", 50*time.Second, "how long a statement waits for a row lock")
	flags.Duration("retention", 10*time.Minute, "how long superseded row versions stay readable")
	flags.Int("max-connections", 1000, "most client connections at a time")
	flags.Int64("txn-mb", 0, "most that one transaction may write, in MiB; 0: a quarter of the memory, at most 1024")
	flags.Int64("reserve", -1, "space that is kept free on the disk, in MiB; negative: 1 % of it, at most 1 GiB; 0: none")
	flags.String("log", "", "file for messages, or 'stderr' (default <data>/server.log)")
	flags.String("log-level", "info", "least level of messages: debug, info, warn, error")
	flags.String("log-format", "text", "form of messages: text or json")
	flags.Bool("insecure", false, "listen on addresses other machines reach while root has no password, and for nodes without certificates")
	flags.String("cluster", "", "address for the other nodes of a cluster; without it the server is alone")
	flags.String("advertise", "", "address that the other nodes reach this one by, if it is not that of --cluster")
	flags.StringP("join", "j", "", "cluster addresses of nodes to join, with commas between; used by a new data directory only")
	flags.String("name", "", "name of the node, which no other node has")
	flags.String("zone", "", "failure domain of the node; replicas are spread over zones")
	flags.String("certs", "", "folder with ca.crt, node.crt and node.key for the traffic between nodes")
	flags.String("tls-cert", "", "certificate for MySQL clients that ask for TLS (default node.crt of --certs)")
	flags.String("tls-key", "", "its key (default node.key of --certs)")
	flags.Bool("require-secure-transport", false, "turn MySQL clients without TLS away")
	flags.Int64("move-mb", 128, "most that is sent in copies of replicas to other nodes, in MiB per second")
	flags.Duration("dead-after", 10*time.Minute, "how long a node is silent before its replicas are made anew on others")
	flags.Duration("lease", 750*time.Millisecond, "how long a shard's owner answers reads without asking its replicas; 0 or less: never")
	flags.Float64("lease-drift", 0.01, "by how much the rate of any node's clock may be off")
	flags.StringP("config", "c", "", "TOML file with these settings")
}

// loadConfig puts the layers together: flags that were given win over ROWLOCK_*
// variables, these over the TOML file, this over the flags' defaults.
func loadConfig(flags *pflag.FlagSet, environ func() []string) (startConfig, error) {
	var c startConfig
	k := koanf.New(".")
	fromEnv := env.Provider(".", env.Opt{Prefix: envPrefix, EnvironFunc: environ, TransformFunc: func(name, value string) (string, any) {
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_", "-")
		if flags.Lookup(key) == nil {
			return "", nil // a variable of another tool
		}
		return key, value
	}})
	path, err := configPath(flags, fromEnv)
	if err != nil {
		return c, err
	}
	if path != "" {
		if err := k.Load(file.Provider(path), toml.Parser()); err != nil {
			return c, usagef("configuration file %s: %w", path, err)
		}
		for _, key := range k.Keys() {
			if flags.Lookup(key) == nil || key == "config" {
				return c, usagef("configuration file %s: unknown setting %q", path, key)
			}
		}
	}
	if err := k.Load(fromEnv, nil); err != nil {
		return c, usagef("environment: %w", err)
	}
	if err := k.Load(posflag.Provider(flags, ".", k), nil); err != nil {
		return c, usagef("flags: %w", err)
	}
	if err := k.Unmarshal("", &c); err != nil {
		return c, usagef("configuration: %w", err)
	}
	return c, c.check()
}

// configPath finds the TOML file: by its flag, else by its variable.
func configPath(flags *pflag.FlagSet, fromEnv *env.Env) (string, error) {
	if flags.Changed("config") {
		return flags.GetString("config")
	}
	values, err := fromEnv.Read()
	if err != nil {
		return "", usagef("environment: %w", err)
	}
	path, _ := values["config"].(string)
	return path, nil
}

// peers are the addresses of --join.
func (c *startConfig) peers() []string {
	var all []string
	for _, at := range strings.Split(c.Join, ",") {
		if at = strings.TrimSpace(at); at != "" {
			all = append(all, at)
		}
	}
	return all
}

// lease is --lease as the library takes it, where 0 means the default.
func (c *startConfig) lease() time.Duration {
	if c.Lease <= 0 {
		return -1
	}
	return c.Lease
}

// reserve is --reserve as the library takes it.
func (c *startConfig) reserve() int64 {
	if c.Reserve < 0 {
		return -1
	}
	return c.Reserve << 20
}

var logFormats = []string{"text", "json"}

func (c *startConfig) check() error {
	if !slices.Contains(logFormats, c.LogFormat) {
		return usagef("log-format is %q; it can be %s", c.LogFormat, strings.Join(logFormats, " or "))
	}
	if _, err := c.level(); err != nil {
		return err
	}
	if c.Shards < 1 {
		return usagef("shards is %d; at least 1 is needed", c.Shards)
	}
	if c.Join != "" && c.Cluster == "" {
		return usagef("join needs cluster: the address that the other nodes reach this one by")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return usagef("tls-cert and tls-key belong together")
	}
	if c.RequireTLS && c.TLSCert == "" && c.Certs == "" {
		return usagef("require-secure-transport needs a certificate: tls-cert and tls-key, or certs")
	}
	if c.MoveMB < 1 {
		return usagef("move-mb is %d; at least 1 is needed", c.MoveMB)
	}
	if c.LeaseDrift <= 0 || c.LeaseDrift >= 1 {
		return usagef("lease-drift is %g; it lies between 0 and 1", c.LeaseDrift)
	}
	for name, mb := range map[string]int64{"memory-mb": c.MemoryMB, "cache-mb": c.CacheMB, "txn-mb": c.TxnMB} {
		if mb < 0 || mb > math.MaxInt64>>20 {
			return usagef("%s is %d; 0 or more is needed", name, mb)
		}
	}
	return nil
}

func (c *startConfig) level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return level, usagef("log-level is %q; it can be debug, info, warn or error", c.LogLevel)
	}
	return level, nil
}
