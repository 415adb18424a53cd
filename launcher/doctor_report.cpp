#include "launcher/doctor_report.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "launcher/help.h"
#include "support/json_text.h"

namespace pyram::launcher {
namespace {

constexpr std::string_view kGreen = "\x1b[32m";
constexpr std::string_view kYellow = "\x1b[33m";
constexpr std::string_view kRed = "\x1b[31m";

std::string coloured(std::string_view text, std::string_view colour, bool colours) {
  if (!colours) return std::string(text);
  return std::string(colour).append(text).append("\x1b[0m");
}

const Way* way_by(const Report& report, Backend backend) {
  const auto way = std::ranges::find(report.ways, backend, &Way::backend);
  return way == report.ways.end() ? nullptr : &*way;
}

// What keeps the most usual way of mounting from working.
std::string what_mounting_lacks(const Report& report) {
  const Way* const fuse = way_by(report, Backend::kFuse);
  return fuse == nullptr || fuse->verdict != Verdict::kFails ? "" : fuse->text;
}

std::string how_it_works(const Report& report, const Way& way) {
  switch (way.backend) {
    case Backend::kSystem:
    case Backend::kUser:
      return "a start uses the image that is " + way.text;
    case Backend::kFuse:
    case Backend::kRoot:
      return "a start mounts the image";
    case Backend::kUserns:
      return "a start mounts the image in a user namespace";
    case Backend::kExtract:
      break;
  }
  std::string text = "a start unpacks the image into RAM, which takes more memory than a mount";
  if (const std::string lacks = what_mounting_lacks(report); !lacks.empty()) {
    text.append("; it is not mounted because ").append(lacks);
  }
  return text;
}

std::string_view word_for(Verdict verdict) {
  switch (verdict) {
    case Verdict::kWorks:
      return "works";
    case Verdict::kFails:
      return "fails";
    case Verdict::kUnknown:
      break;
  }
  return "open";
}

// One that fails is nothing bad where another one works.
std::string_view colour_for(const Report& report, Verdict verdict) {
  if (verdict == Verdict::kWorks) return kGreen;
  return verdict == Verdict::kFails && !report.works ? kRed : kYellow;
}

void add(std::string& out, std::string_view label, std::string_view text) {
  std::string line(label);
  line.resize(14, ' ');
  out.append(line).append(text).append("\n");
}

std::string json_or_null(const std::string& text) {
  return text.empty() ? "null" : json_text(text);
}

}  // namespace

void judge(Report& report) {
  if (report.image.empty()) {
    report.verdict = report.image_problem;
    const bool mountable = std::ranges::any_of(report.ways, [](const Way& way) {
      return way.verdict == Verdict::kUnknown && way.backend != Backend::kExtract;
    });
    report.verdict += mountable ? " (nothing seems to be in the way of mounting one)" : "";
    return;
  }
  if (report.unpacked) {
    report.works = report.image_problem.empty();
    report.verdict = report.works ? "the image is a directory of files: there is nothing to mount"
                                  : report.image_problem;
    return;
  }
  for (const Way& way : report.ways) {
    if (!way.allowed || way.verdict != Verdict::kWorks) continue;
    report.works = true;
    report.verdict = how_it_works(report, way);
    return;
  }
  report.verdict = "no way to get at the image works";
  if (!report.backend.empty()) {
    report.verdict += " of those that PYRAM_BACKEND=" + report.backend + " allows";
  } else if (const std::string lacks = what_mounting_lacks(report); !lacks.empty()) {
    report.verdict += ": " + lacks;
  }
}

bool colours_wanted() {
  if (::isatty(STDOUT_FILENO) != 1 || environment_variable("NO_COLOR")) return false;
  const auto kind = environment_variable("TERM");
  return kind && *kind != "dumb";
}

std::string as_text(const Report& report, bool colours) {
  std::string out = coloured(report.works ? "Pyram works here: " : "Pyram does not work here: ",
                             report.works ? kGreen : kRed, colours);
  out.append(report.verdict).append("\n\n").append(kVersionLine).append("\n");
  add(out, "image", report.image.empty() ? "none" : report.image);
  add(out, "pyram-mount", report.daemon.empty() ? "not found" : report.daemon);
  add(out, "run-time", report.runtime);
  add(out, "memory", report.memory);
  for (const Way& way : report.ways) {
    std::string name(name_of(way.backend));
    name.resize(9, ' ');
    std::string word(word_for(way.verdict));
    word.resize(7, ' ');
    out.append("\n").append(name);
    out.append(coloured(word, colour_for(report, way.verdict), colours)).append(way.text);
  }
  if (!report.backend.empty()) {
    out.append("\n\nPYRAM_BACKEND=" + report.backend + " allows this way only.");
  }
  return out;
}

std::string as_json(const Report& report) {
  std::string out = "{\n";
  const auto member = [&out](std::string_view name, const std::string& value) {
    out.append("  ").append(json_text(name)).append(": ").append(value).append(",\n");
  };
  member("version", json_text(PYRAM_VERSION));
  member("works", report.works ? "true" : "false");
  member("verdict", json_text(report.verdict));
  member("image", json_or_null(report.image));
  member("pyram_mount", json_or_null(report.daemon));
  member("run_time_directory", json_text(report.runtime));
  member("memory", json_text(report.memory));
  member("only_backend", json_or_null(report.backend));
  out.append("  \"ways\": [");
  for (const Way& way : report.ways) {
    out.append(&way == report.ways.data() ? "\n" : ",\n");
    out.append("    {\"way\": ").append(json_text(name_of(way.backend)));
    out.append(", \"works\": ");
    out.append(way.verdict == Verdict::kUnknown ? "null"
               : way.verdict == Verdict::kWorks ? "true"
                                                : "false");
    out.append(", \"allowed\": ").append(way.allowed ? "true" : "false");
    out.append(", \"text\": ").append(json_text(way.text)).append("}");
  }
  return out.append("\n  ]\n}");
}

}  // namespace pyram::launcher
