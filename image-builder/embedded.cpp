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
PYRAM_EMBED(queue_module, PYRAM_BUILDER_SOURCE "/python/_queue.py");
PYRAM_EMBED(certifi_where, PYRAM_BUILDER_SOURCE "/python/certifi_where.py");
PYRAM_EMBED(repack_wheel, PYRAM_BUILDER_SOURCE "/python/repack_wheel.py");
PYRAM_EMBED(lock_files, PYRAM_BUILDER_SOURCE "/python/lock_files.py");
PYRAM_EMBED(install_packages, PYRAM_BUILDER_SOURCE "/python/install_packages.py");
PYRAM_EMBED(app_rules, PYRAM_BUILDER_SOURCE "/app/app.rules");
PYRAM_EMBED(app_project, PYRAM_BUILDER_SOURCE "/python/app_project.py");
PYRAM_EMBED(serve_init, PYRAM_SERVE_SOURCE "/__init__.py");
PYRAM_EMBED(serve_main, PYRAM_SERVE_SOURCE "/__main__.py");
PYRAM_EMBED(serve_client, PYRAM_SERVE_SOURCE "/client.py");
PYRAM_EMBED(serve_control, PYRAM_SERVE_SOURCE "/control.py");
PYRAM_EMBED(serve_django_guard, PYRAM_SERVE_SOURCE "/django_guard.py");
PYRAM_EMBED(serve_generation, PYRAM_SERVE_SOURCE "/generation.py");
PYRAM_EMBED(serve_handover, PYRAM_SERVE_SOURCE "/handover.py");
PYRAM_EMBED(serve_image, PYRAM_SERVE_SOURCE "/image.py");
PYRAM_EMBED(serve_jit, PYRAM_SERVE_SOURCE "/jit.py");
PYRAM_EMBED(serve_keeper, PYRAM_SERVE_SOURCE "/keeper.py");
PYRAM_EMBED(serve_listeners, PYRAM_SERVE_SOURCE "/listeners.py");
PYRAM_EMBED(serve_machine, PYRAM_SERVE_SOURCE "/machine.py");
PYRAM_EMBED(serve_options, PYRAM_SERVE_SOURCE "/options.py");
PYRAM_EMBED(serve_rehearsal, PYRAM_SERVE_SOURCE "/rehearsal.py");
PYRAM_EMBED(serve_training, PYRAM_SERVE_SOURCE "/training.py");
PYRAM_EMBED(serve_urls, PYRAM_SERVE_SOURCE "/urls.py");
PYRAM_EMBED(serve_worker_memory, PYRAM_SERVE_SOURCE "/worker_memory.py");
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

std::string_view app_rules() {
  return between(pyram_embedded_app_rules, pyram_embedded_app_rules_end);
}

std::string_view app_project_program() {
  return between(pyram_embedded_app_project, pyram_embedded_app_project_end);
}

std::vector<std::pair<std::string, std::string_view>> serving_modules() {
  return {
      {"__init__.py", between(pyram_embedded_serve_init, pyram_embedded_serve_init_end)},
      {"__main__.py", between(pyram_embedded_serve_main, pyram_embedded_serve_main_end)},
      {"client.py", between(pyram_embedded_serve_client, pyram_embedded_serve_client_end)},
      {"control.py", between(pyram_embedded_serve_control, pyram_embedded_serve_control_end)},
      {"django_guard.py",
       between(pyram_embedded_serve_django_guard, pyram_embedded_serve_django_guard_end)},
      {"generation.py",
       between(pyram_embedded_serve_generation, pyram_embedded_serve_generation_end)},
      {"handover.py", between(pyram_embedded_serve_handover, pyram_embedded_serve_handover_end)},
      {"image.py", between(pyram_embedded_serve_image, pyram_embedded_serve_image_end)},
      {"jit.py", between(pyram_embedded_serve_jit, pyram_embedded_serve_jit_end)},
      {"keeper.py", between(pyram_embedded_serve_keeper, pyram_embedded_serve_keeper_end)},
      {"listeners.py", between(pyram_embedded_serve_listeners, pyram_embedded_serve_listeners_end)},
      {"machine.py", between(pyram_embedded_serve_machine, pyram_embedded_serve_machine_end)},
      {"options.py", between(pyram_embedded_serve_options, pyram_embedded_serve_options_end)},
      {"rehearsal.py", between(pyram_embedded_serve_rehearsal, pyram_embedded_serve_rehearsal_end)},
      {"training.py", between(pyram_embedded_serve_training, pyram_embedded_serve_training_end)},
      {"urls.py", between(pyram_embedded_serve_urls, pyram_embedded_serve_urls_end)},
      {"worker_memory.py",
       between(pyram_embedded_serve_worker_memory, pyram_embedded_serve_worker_memory_end)},
  };
}

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

std::string_view queue_module() {
  return between(pyram_embedded_queue_module, pyram_embedded_queue_module_end);
}

std::string_view certifi_where() {
  return between(pyram_embedded_certifi_where, pyram_embedded_certifi_where_end);
}

std::string_view repack_wheel_program() {
  return between(pyram_embedded_repack_wheel, pyram_embedded_repack_wheel_end);
}

std::string install_packages_program() {
  return std::string(between(pyram_embedded_lock_files, pyram_embedded_lock_files_end)) +
         std::string(between(pyram_embedded_install_packages, pyram_embedded_install_packages_end));
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
