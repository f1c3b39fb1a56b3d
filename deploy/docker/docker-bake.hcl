# The image for several platforms, from the root of the repository:
#   IMAGE=registry.example.com/parley VERSION=v1.2.3 docker buildx bake -f deploy/docker/docker-bake.hcl --push
variable "IMAGE" { default = "parley" }
variable "VERSION" { default = "dev" }

group "default" { targets = ["parley"] }

target "parley" {
  context    = "."
  dockerfile = "deploy/docker/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = ["${IMAGE}:${VERSION}"]
  args       = { VERSION = VERSION }
  attest     = ["type=sbom", "type=provenance,mode=max"]
  labels = {
    "org.opencontainers.image.title"   = "parley"
    "org.opencontainers.image.version" = VERSION
  }
}
