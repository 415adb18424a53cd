#include "image-builder/tree/bytecode.h"

#include <sched.h>

#include <sstream>

#include "image-builder/embedded.h"
#include "support/error.h"
#include "support/image_layout.h"

namespace pyram::builder {
namespace {

// What bytecode says instead of the place where the image was built.
constexpr char kTreeInBytecode[] = "/pyram";

int usable_cores() {
  cpu_set_t set;
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

// Where sys.path leads to in the image.
void append_module_directories(const ImageTree& image, std::vector<std::string>& arguments) {
  arguments.push_back((image.tree / image.directories.stdlib).native());
  for (const std::string& site : image.directories.sites) {
    // The one inside the standard library has been seen with it.
    if (!site.starts_with(image.directories.stdlib + "/")) {
      arguments.push_back((image.tree / site).native());
    }
  }
}

BytecodeResult compile(const Starter& starter, const std::vector<std::string>& arguments,
                       const std::filesystem::path& work) {
  const std::string output =
      run_or_throw(python_command(starter, compile_program(), arguments, work),
                   ExitCode::kBadSource, "compile the modules");
  std::istringstream lines(output);
  BytecodeResult result;
  lines >> result.compiled;
  lines.ignore(1);
  for (std::string line; std::getline(lines, line);) result.not_python.push_back(line);
  return result;
}

}  // namespace

BytecodeResult compile_directory(const Starter& starter, const std::filesystem::path& tree,
                                 const std::filesystem::path& directory,
                                 const std::filesystem::path& work) {
  return compile(starter,
                 {tree.native(), kTreeInBytecode, std::to_string(usable_cores()), "columns",
                  (work / "optimised").native(), directory.native()},
                 work);
}

BytecodeResult compile_modules(const ImageTree& image, const Starter& compiler,
                               const std::filesystem::path& work, bool columns) {
  std::vector<std::string> arguments = {
      image.tree.native(), kTreeInBytecode, std::to_string(usable_cores()),
      columns ? "columns" : "lines", (image.tree / layout::kBytecodeDeltas).native()};
  append_module_directories(image, arguments);
  return compile(compiler, arguments, work);
}

void index_modules(const ImageTree& image, std::int64_t time, const std::filesystem::path& work) {
  std::vector<std::string> arguments = {image.tree.native(), std::to_string(time),
                                        (image.tree / layout::kModuleIndex).native()};
  append_module_directories(image, arguments);
  run_or_throw(python_command(image.starter, std::string(index_program()), arguments, work),
               ExitCode::kBadSource, "make the index of the modules");
}

}  // namespace pyram::builder
