package main

import (
	"fmt"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

const module = "github.com/slipway-build/slipway"

// adapters are the packages whose callers bring a third party's type along.
var adapters = []string{
	module + "/queue/pgqueue",
	module + "/queue/pgqueue/pgqueuetest",
	module + "/queue/sqlitequeue",
	module + "/storage/s3store",
	module + "/auth/sqlauth",
}

// foreignTypes names the exported declarations in the module at dir that show
// a type of another module. Programs and internal packages have no users to
// show it to.
func foreignTypes(dir string) ([]string, error) {
	pkgs, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
			packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo,
		Dir: dir,
	}, "./...")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, pkg := range pkgs {
		if len(pkg.Errors) > 0 {
			return nil, pkg.Errors[0]
		}
		if pkg.Name == "main" || strings.Contains(pkg.PkgPath+"/", "/internal/") || slices.Contains(adapters, pkg.PkgPath) {
			continue
		}
		scope := pkg.Types.Scope()
		for _, name := range scope.Names() {
			object := scope.Lookup(name)
			if foreign := foreignIn(object); foreign != "" {
				found = append(found, fmt.Sprintf("%s: %s shows %s; only a backend's own package shows a third party's type",
					pkg.Fset.Position(object.Pos()), name, foreign))
			}
		}
	}
	return found, nil
}

// foreignIn returns the first third-party type that the declaration shows.
func foreignIn(object types.Object) string {
	if !object.Exported() {
		return ""
	}
	named, ok := types.Unalias(object.Type()).(*types.Named)
	if _, isType := object.(*types.TypeName); !isType || !ok || named.Obj() != object {
		return foreignType(object.Type())
	}
	for method := range named.Methods() {
		if foreign := foreignIn(method); foreign != "" {
			return foreign
		}
	}
	for parameter := range named.TypeParams().TypeParams() {
		if foreign := foreignType(parameter.Constraint()); foreign != "" {
			return foreign
		}
	}
	return foreignType(named.Underlying())
}

// foreignType looks into what t is made of. It stops at names of this module:
// their declarations are looked at by themselves.
func foreignType(t types.Type) string {
	switch t := types.Unalias(t).(type) {
	case *types.Named:
		if pkg := t.Obj().Pkg(); pkg != nil && thirdParty(pkg.Path()) {
			return pkg.Path() + "." + t.Obj().Name()
		}
		return firstForeign(slices.Collect(t.TypeArgs().Types()))
	case *types.Signature:
		return firstForeign(append(variables(t.Params()), variables(t.Results())...))
	case *types.Struct:
		var parts []types.Type
		for field := range t.Fields() {
			if field.Exported() {
				parts = append(parts, field.Type())
			}
		}
		return firstForeign(parts)
	case *types.Interface:
		parts := slices.Collect(t.EmbeddedTypes())
		for method := range t.ExplicitMethods() {
			parts = append(parts, method.Type())
		}
		return firstForeign(parts)
	case *types.Map:
		return firstForeign([]types.Type{t.Key(), t.Elem()})
	case interface{ Elem() types.Type }:
		return foreignType(t.Elem())
	default:
		return ""
	}
}

func firstForeign(parts []types.Type) string {
	for _, part := range parts {
		if foreign := foreignType(part); foreign != "" {
			return foreign
		}
	}
	return ""
}

func variables(tuple *types.Tuple) []types.Type {
	var parts []types.Type
	for v := range tuple.Variables() {
		parts = append(parts, v.Type())
	}
	return parts
}

// thirdParty reports whether the package at path belongs neither to the
// standard library, whose paths start without a domain, nor to this module.
func thirdParty(path string) bool {
	domain, _, _ := strings.Cut(path, "/")
	return strings.Contains(domain, ".") && path != module && !strings.HasPrefix(path, module+"/")
}
