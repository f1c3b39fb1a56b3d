//go:build !noclouds

package boot

import _ "parley/adapters/blobs/clouds" // s3://, gs://, azblob://
