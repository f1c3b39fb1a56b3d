//go:build !disable_grpc_modules

package blobs

// directPath tells whether the program holds the modules by which gs:// with
// grpc=true reaches Google Cloud Storage without its front ends.
const directPath = true
