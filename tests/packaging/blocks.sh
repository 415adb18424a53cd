# shellcheck shell=bash disable=SC2034
# The commands that documents print, in blocks marked "sh". Sourced. A comment before a block may say
#   <!-- test: skip (REASON) -->   no test runs it
#   <!-- test: last -->            documents.test runs it at the very end
#   <!-- test: container -->       containers.test runs it
#   <!-- test: builder -->, server registry/fleet.test runs it, in the place of the one or the other

# Run by documents.test on a fresh system, by deploy.test on another one, and by commands.test in this checkout.
system_documents=(docs/getting-started.md docs/virtual-environments.md docs/moving-from-pyram.md docs/faq.md
  docs/licences.md docs/adding-packages.md docs/systemd.md docs/django-site-by-hand.md)
deploy_documents=(docs/django-site.md docs/deploying.md)
checkout_documents=(README.md CONTRIBUTING.md)

# list_blocks FILE: a line for each block, its number and mark ("" is the usual one).
list_blocks() {
  awk '/^<!-- test: / { mark = $3 == "skip" && $4 !~ /^\(./ ? "skip-without-a-reason" : $3; next }
       /^```sh$/ { print NR, mark; inside = 1; next }
       /^```/ { inside = !inside; if (!inside) mark = "" }' "$1"
}

# blocks FILE KIND DIRECTORY: writes each block of that kind as a file of its own into DIRECTORY, by the
# number of its first line, and prints their names.
blocks() {
  awk -v kind="$2" -v directory="$3" '
    /^<!-- test: / { mark = $3; next }
    /^```sh$/ { if (mark == kind) { file = sprintf("%s/%03d", directory, NR); print file }
                inside = 1; mark = ""; next }
    /^```/ { inside = !inside; file = ""; mark = ""; next }
    inside && file != "" { print > file }' "$1"
}
