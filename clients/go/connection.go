package lightmem

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

const (
	defaultTarget = "localhost:7420"
	keyFileName   = "admin.key"
)

// findTarget is the option, else LIGHTMEM_TARGET, else the local server's default.
func findTarget(target string) string {
	if target != "" {
		return target
	}
	if target = os.Getenv("LIGHTMEM_TARGET"); target != "" {
		return target
	}
	return defaultTarget
}

// isLocal says whether the target is this machine by its name: loopback, or a Unix socket.
func isLocal(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	for _, scheme := range []string{"dns:", "passthrough:"} {
		if rest, found := strings.CutPrefix(target, scheme); found {
			target = rest
			if i := strings.LastIndex(rest, "///"); i >= 0 {
				target = rest[i+3:]
			}
		}
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = strings.Trim(target, "[]")
	}
	if host == "localhost" {
		return true
	}
	address := net.ParseIP(host)
	return address != nil && address.IsLoopback()
}

// keys finds the key at the first call that needs one, not before: a server's first start may have to make it.
type keys struct {
	given, target string

	mutex sync.Mutex
	found string
}

func (k *keys) find() (string, error) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.found != "" {
		return k.found, nil
	}
	key, err := findKey(k.given, k.target)
	if err == nil {
		k.found = key
	}
	return key, err
}

// findKey is the option, else LIGHTMEM_API_KEY, else, for a server on this machine, the key that its first start left. That one is
// never sent to another machine.
func findKey(given, target string) (string, error) {
	key := given
	if key == "" {
		key = os.Getenv("LIGHTMEM_API_KEY")
	}
	if key == "" {
		if !isLocal(target) {
			return "", newError(ErrUnauthenticated, "KEY_MISSING", "no key for %s: give WithAPIKey, or set LIGHTMEM_API_KEY", target)
		}
		path := keyFile()
		content, err := os.ReadFile(path)
		if key = strings.TrimSpace(string(content)); err != nil || key == "" {
			return "", newError(ErrUnauthenticated, "KEY_MISSING",
				"no key: give WithAPIKey, set LIGHTMEM_API_KEY, or start a server on this machine, which makes %s", path)
		}
	}
	key = strings.TrimSpace(key)
	for _, character := range key {
		if character < ' ' || character > '~' {
			return "", invalid("api_key", "KEY_INVALID", "has characters that no key has")
		}
	}
	return key, nil
}

// keyFile is where the first start of a server on this machine leaves its admin key: as the server, by the system's customs.
func keyFile() string {
	home, _ := os.UserHomeDir()
	if folder := os.Getenv("LIGHTMEM_DATA_DIR"); folder != "" {
		if rest, found := strings.CutPrefix(folder, "~"); found {
			folder = home + rest
		}
		return filepath.Join(folder, keyFileName)
	}
	return filepath.Join(dataFolder(home), "lightmem", keyFileName)
}

func dataFolder(home string) string {
	switch runtime.GOOS {
	case "windows":
		return os.Getenv("LOCALAPPDATA")
	case "darwin":
		return filepath.Join(home, "Library", "Application Support")
	}
	if folder := os.Getenv("XDG_DATA_HOME"); strings.TrimSpace(folder) != "" {
		return folder
	}
	return filepath.Join(home, ".local", "share")
}
