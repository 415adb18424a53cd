// What the builder tells the code that relocates a library which wasn't loaded at its address
// (self_relocation.cpp). Lies right behind that code, in the library's file.
//
// A plain structure and nothing else: the code is built without the C and C++ libraries. All
// distances are in bytes, from the structure's own first byte.
#pragma once

namespace pyram::builder {

struct SelfRelocation {
  unsigned long address;         // Of this structure, where the library is at its address.
  long table;                    // Distance of the table: words as in DT_RELR, addresses as above.
  unsigned long table_words;     // Its length.
  long protected_begin;          // Distance of what the loader has made read-only (PT_GNU_RELRO).
  unsigned long protected_size;  // Its length in bytes; 0: there is none.
  long initialiser;              // Distance of the library's own DT_INIT; 0: it has none.
};

}  // namespace pyram::builder
