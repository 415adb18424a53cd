// What the doctor found, and how it tells that.
#pragma once

#include <string>
#include <vector>

#include "launcher/settings.h"

namespace pyram::launcher {

enum class Verdict {
  kFails,
  kWorks,
  kUnknown,  // There was nothing to try it with.
};

// One way to an image's content.
struct Way {
  Backend backend;
  Verdict verdict;
  bool allowed;  // By PYRAM_BACKEND.
  std::string text;
};

struct Report {
  bool works = false;         // A start would reach the interpreter.
  std::string verdict;        // The same in a sentence, with what to do where it doesn't.
  std::string image;          // Its file; empty where there is none, and then:
  std::string image_problem;  // Why; or why a directory can't be used.
  bool unpacked = false;      // The image is a directory: nothing is mounted.
  std::string daemon;         // The program; empty where it was not found.
  std::string runtime;
  std::string memory;
  std::string backend;  // The only one that may be used; empty: any.
  std::vector<Way> ways;
};

// Fills in `works` and `verdict`.
void judge(Report& report);

// Whether stdout is a terminal that shows colours, and nobody wants none (NO_COLOR).
[[nodiscard]] bool colours_wanted();

// Without a newline at the end.
[[nodiscard]] std::string as_text(const Report& report, bool colours);
[[nodiscard]] std::string as_json(const Report& report);

}  // namespace pyram::launcher
