// `pyram-image push`: images into a registry, with what is to be known about them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "registry/session.h"

namespace pyram::registry {

struct PushOptions {
  std::vector<std::string> images;  // Several: of one architecture each, under one name.
  std::string reference;
  SessionOptions session;
  bool quiet = false;
};

// The name leads to the images only when all of them are there, with what refers to them. Returns
// what to tell the person. Throws Error: kBadImage, kBadSource, kUsage, kVerification.
[[nodiscard]] std::string push_images(const PushOptions& options);

// `pyram-image blocks`: the table of blocks of an image, for a URL that it is pulled from; push
// does it by itself. Returns what to tell the person. Throws Error: kBadImage, kCannotWrite.
[[nodiscard]] std::string write_block_table(const std::string& image,
                                            const std::filesystem::path& output);

}  // namespace pyram::registry
