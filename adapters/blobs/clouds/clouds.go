// Package clouds lets blobs open buckets of S3, Google Cloud Storage and Azure. It is
// imported for that effect. The drivers are larger than all the rest of a program that
// keeps files in a directory, as most tests do.
package clouds

import (
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/s3blob"    // s3://
)
