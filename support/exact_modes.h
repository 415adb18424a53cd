// Files and directories with the modes that we say, whatever the caller's umask is.
#pragma once

#include <sys/stat.h>

namespace pyram {

// For as long as it lives, nothing is taken from the modes of what is made. For a program that has
// to leave the umask as it found it, as the launcher, whose script inherits it. Changes the whole
// process: no other thread may make files meanwhile.
class ExactModes {
 public:
  ExactModes() noexcept : umask_(::umask(0)) {}
  ~ExactModes() { ::umask(umask_); }
  ExactModes(const ExactModes&) = delete;
  ExactModes& operator=(const ExactModes&) = delete;

 private:
  mode_t umask_;
};

}  // namespace pyram
