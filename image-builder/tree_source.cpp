// The `dir:` source.
#include "image-builder/source.h"
#include "support/error.h"
#include "support/image_layout.h"

namespace pyram::builder {
namespace fs = std::filesystem;

SourceTree use_folder(const fs::path& folder) {
  std::error_code missing;
  const fs::path prefix = fs::canonical(folder, missing);
  if (missing || !fs::is_directory(prefix)) {
    throw Error(ExitCode::kBadSource, "there is no folder " + quote(folder.native()) +
                                          "; name one that holds bin/pypy3 and lib/");
  }
  SourceTree source;
  source.root = "/";
  source.prefix = prefix;
  source.system_libraries = true;
  // Not the whole path: where the build machine has it is nobody's business.
  source.description = "dir:" + prefix.filename().native();
  for (const char* name : {layout::kLibraries, "lib", "lib64"}) {
    if (fs::is_directory(prefix / name)) source.library_folders.push_back(prefix / name);
  }
  return source;
}

}  // namespace pyram::builder
