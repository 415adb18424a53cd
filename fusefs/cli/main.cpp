// pyram-mount: mounts an image and serves it, or talks to one that does.
#include "fusefs/cli/program.h"

int main(int argc, char** argv) { return pyram::mount_program(argc, argv); }
