// Makes an image's shared libraries start faster and weigh less.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace pyram::builder {

// Gives the libraries below `tree` that have many relative relocations an address of their own
// (elf/fixed_address.h), or, with `relocatable` and where that can't be, packs the relocations
// (elf/relr.h); takes out tables that no Python program needs (elf/unwind.h). The addresses depend
// on the libraries' content alone. Returns what a person should know of.
// Throws Error: kBadSource for a broken file, kFailed when a result would be another program.
std::vector<std::string> improve_libraries(const std::filesystem::path& tree, bool relocatable);

// The addresses of the files below `tree` that have one, by their path in it.
[[nodiscard]] std::map<std::string, std::uint64_t> fixed_addresses(
    const std::filesystem::path& tree);

}  // namespace pyram::builder
