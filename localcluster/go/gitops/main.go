// Judges objects of the API as GitOps tools do: by kstatus, which Flux, kpt and `kubectl` plugins wait by, and by a
// health script, which Argo CD runs in this very interpreter with these very libraries.
//
//	gitops-health health.lua < objects
//
// One JSON object a line comes in, one verdict a line goes out:
//
//	{"kstatus": {"status": "InProgress", "message": "..."}, "argo": {"status": "Progressing", "message": "..."}}
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// longestLine is twice what etcd takes for one object.
const longestLine = 4 << 20

// scriptSeconds is how long Argo CD lets a health script run.
const scriptSeconds = 1 * time.Second

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gitops-health:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("one argument is needed, the health script; there are %d", len(arguments))
	}
	script, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 0, 64<<10), longestLine)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		byStatus, err := status.Compute(object)
		if err != nil {
			return err
		}
		byScript, err := health(string(script), object.Object)
		if err != nil {
			return err
		}
		err = out.Encode(map[string]verdict{
			"kstatus": {byStatus.Status.String(), byStatus.Message},
			"argo":    byScript,
		})
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// health runs the script as Argo CD does: the object is the global `obj`, and a table with status and message comes
// back. Only package, base and table are there; a script of a ConfigMap has no string library.
func health(script string, object map[string]any) (verdict, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return verdict{}, err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), scriptSeconds)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return verdict{}, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return verdict{}, fmt.Errorf("the script gave a %s; a table is needed", state.Get(-1).Type())
	}
	return verdict{lua.LVAsString(table.RawGetString("status")), lua.LVAsString(table.RawGetString("message"))}, nil
}

func value(state *lua.LState, of any) lua.LValue {
	switch known := of.(type) {
	case bool:
		return lua.LBool(known)
	case string:
		return lua.LString(known)
	case int64:
		return lua.LNumber(known)
	case float64:
		return lua.LNumber(known)
	case []any:
		table := state.CreateTable(len(known), 0)
		for _, item := range known {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(known))
		for key, item := range known {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
