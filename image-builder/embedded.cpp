#include "image-builder/embedded.h"

#include <elf.h>

// The assembler takes the files in; CMake makes this file anew when one of them has changed.
#define PYRAM_EMBED(name, file)                   \
  __asm__(                                        \
      ".pushsection .rodata\n"                    \
      ".globl pyram_embedded_" #name              \
      "\n"                                        \
      "pyram_embedded_" #name ": .incbin \"" file \
      "\"\n"                                      \
      ".globl pyram_embedded_" #name              \
      "_end\n"                                    \
      "pyram_embedded_" #name                     \
      "_end: .byte 0\n"                           \
      ".popsection");                             \
  extern "C" const char pyram_embedded_##name[];  \
  extern "C" const char pyram_embedded_##name##_end[]

// For the processors that the build found a compiler for; the others' files are empty.
PYRAM_EMBED(trampoline_x86_64, PYRAM_MACHINE_CODE "/trampoline-x86_64");
PYRAM_EMBED(trampoline_aarch64, PYRAM_MACHINE_CODE "/trampoline-aarch64");
PYRAM_EMBED(self_relocation_x86_64, PYRAM_MACHINE_CODE "/self-relocation-x86_64");
PYRAM_EMBED(self_relocation_aarch64, PYRAM_MACHINE_CODE "/self-relocation-aarch64");
PYRAM_EMBED(rules, PYRAM_BUILDER_SOURCE "/tree/strip.rules");
PYRAM_EMBED(facts, PYRAM_BUILDER_SOURCE "/python/facts.py");
PYRAM_EMBED(delta, PYRAM_BUILDER_SOURCE "/python/bytecode_delta.py");
PYRAM_EMBED(compile, PYRAM_BUILDER_SOURCE "/python/compile_modules.py");
PYRAM_EMBED(index, PYRAM_BUILDER_SOURCE "/python/index_modules.py");
PYRAM_EMBED(startup, PYRAM_BUILDER_SOURCE "/python/image_startup.py");
PYRAM_EMBED(certificate_stores, PYRAM_BUILDER_SOURCE "/python/certificate_stores.py");
PYRAM_EMBED(certifi_where, PYRAM_BUILDER_SOURCE "/python/certifi_where.py");
PYRAM_EMBED(repack_wheel, PYRAM_BUILDER_SOURCE "/python/repack_wheel.py");
PYRAM_EMBED(install_packages, PYRAM_BUILDER_SOURCE "/python/install_packages.py");
PYRAM_EMBED(check_extensions, PYRAM_BUILDER_SOURCE "/python/check_extensions.py");
PYRAM_EMBED(train_django, PYRAM_BUILDER_SOURCE "/python/train_django.py");
PYRAM_EMBED(train_pymysql, PYRAM_BUILDER_SOURCE "/python/train_pymysql.py");

namespace pyram::builder {
namespace {

std::string_view between(const char* begin, const char* end) {
  return {begin, static_cast<std::size_t>(end - begin)};
}

std::span<const std::byte> bytes_between(const char* begin, const char* end) {
  return std::as_bytes(std::span(between(begin, end)));
}

}  // namespace

std::span<const std::byte> trampoline(std::uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return bytes_between(pyram_embedded_trampoline_x86_64, pyram_embedded_trampoline_x86_64_end);
    case EM_AARCH64:
      return bytes_between(pyram_embedded_trampoline_aarch64,
                           pyram_embedded_trampoline_aarch64_end);
    default:
      return {};
  }
}

std::span<const std::byte> self_relocation(std::uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return bytes_between(pyram_embedded_self_relocation_x86_64,
                           pyram_embedded_self_relocation_x86_64_end);
    case EM_AARCH64:
      return bytes_between(pyram_embedded_self_relocation_aarch64,
                           pyram_embedded_self_relocation_aarch64_end);
    default:
      return {};
  }
}

std::string_view default_rules() { return between(pyram_embedded_rules, pyram_embedded_rules_end); }

std::string_view facts_program() { return between(pyram_embedded_facts, pyram_embedded_facts_end); }

std::string compile_program() {
  return std::string(between(pyram_embedded_delta, pyram_embedded_delta_end))
      .append(between(pyram_embedded_compile, pyram_embedded_compile_end));
}

std::string_view index_program() { return between(pyram_embedded_index, pyram_embedded_index_end); }

std::string_view startup_program() {
  return between(pyram_embedded_startup, pyram_embedded_startup_end);
}

std::string_view certificate_stores() {
  return between(pyram_embedded_certificate_stores, pyram_embedded_certificate_stores_end);
}

std::string_view certifi_where() {
  return between(pyram_embedded_certifi_where, pyram_embedded_certifi_where_end);
}

std::string_view repack_wheel_program() {
  return between(pyram_embedded_repack_wheel, pyram_embedded_repack_wheel_end);
}

std::string_view install_packages_program() {
  return between(pyram_embedded_install_packages, pyram_embedded_install_packages_end);
}

std::string_view check_extensions_program() {
  return between(pyram_embedded_check_extensions, pyram_embedded_check_extensions_end);
}

std::string_view train_django_program() {
  return between(pyram_embedded_train_django, pyram_embedded_train_django_end);
}

std::string_view train_pymysql_program() {
  return between(pyram_embedded_train_pymysql, pyram_embedded_train_pymysql_end);
}

}  // namespace pyram::builder
