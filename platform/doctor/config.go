package doctor

import (
	"slices"
	"strings"
)

// Misspelt returns, for each variable of an environment that is close to the name of
// a setting and is not one, the name that was probably meant.
func Misspelt(environ, settings []string) map[string]string {
	found := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if value == "" || len(name) < 5 || slices.Contains(settings, name) {
			continue
		}
		most := 1
		if len(name) >= 9 {
			most = 2
		}
		for _, s := range settings {
			if distance(strings.ToUpper(name), s) <= most {
				found[name] = s
				break
			}
		}
	}
	return found
}

// distance is how many letters have to be changed, added, removed or swapped with
// their neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
