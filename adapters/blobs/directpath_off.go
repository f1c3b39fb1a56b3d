//go:build disable_grpc_modules

package blobs

// directPath is false in the programs of make build and of releases: the modules
// are 14 MB, and grpc=true works through Google's front ends as well.
const directPath = false
