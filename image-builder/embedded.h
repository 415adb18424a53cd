// Files that are built into pyram-image, so that it works as a single program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyram::builder {

// The ELF program that becomes bin/pypy3 of an image (trampoline.cpp).
// `machine` is e_machine. Empty for a processor that this pyram-image was built without.
[[nodiscard]] std::span<const std::byte> trampoline(std::uint16_t machine);

// Machine code that relocates a library (self_relocation.cpp); a SelfRelocation belongs behind it.
// Empty as above.
[[nodiscard]] std::span<const std::byte> self_relocation(std::uint16_t machine);

// The table of what is left out of images (strip.rules).
[[nodiscard]] std::string_view default_rules();

// The table of what of a project is left out (app/app.rules).
[[nodiscard]] std::string_view app_rules();

// Python programs that the image's own interpreter runs during a build (python/*.py).
[[nodiscard]] std::string_view facts_program();
[[nodiscard]] std::string compile_program();  // bytecode_delta.py, then compile_modules.py.
[[nodiscard]] std::string_view index_program();
[[nodiscard]] std::string_view repack_wheel_program();
[[nodiscard]] std::string install_packages_program();  // lock_files.py, then install_packages.py.
[[nodiscard]] std::string_view app_project_program();
[[nodiscard]] std::string_view check_extensions_program();
[[nodiscard]] std::string_view train_django_program();
[[nodiscard]] std::string_view train_pymysql_program();

// The modules of the package pyram_serve (serve/pyram_serve): names and texts.
[[nodiscard]] std::vector<std::pair<std::string, std::string_view>> serving_modules();

// What the image's standard library gets to know about living in an image
// (python/image_startup.py), with @VERSION@, @STDLIB@, @INDEX@, @UNPACKED@ and @DELTAS@ left open.
[[nodiscard]] std::string_view startup_program();

// Where the machine's certificates are: the ends of PyPy's module of OpenSSL and of certifi's.
[[nodiscard]] std::string_view certificate_stores();
[[nodiscard]] std::string_view certifi_where();

// The module _queue, which PyPy lacks.
[[nodiscard]] std::string_view queue_module();

}  // namespace pyram::builder
