// Package migrations embeds the versioned migration directories, one per
// dialect, each with the atlas.sum that proves it whole. The Atlas CLI reads
// the same directories.
package migrations

import "embed"

// FS holds postgres/ and sqlite/.
//
//go:embed postgres sqlite
var FS embed.FS
