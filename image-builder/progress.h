// Tells a person how far a build is: a bar on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace pyram::builder {

// Writes to stderr. Not thread-safe. The bar is drawn once a phase and when step() is called.
class Progress {
 public:
  // `phases` is how many calls of phase() there will be. A quiet one prints nothing.
  Progress(std::size_t phases, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Ends the phase before and begins the next, such as "compiling the modules".
  void phase(std::string_view name);
  // How far this phase is, from 0 to 1.
  void step(double done);
  // One line for the person, whatever is drawn.
  void note(std::string_view text);
  // Everything is done: the bar goes.
  void finish();

 private:
  void draw();
  void wipe();

  std::size_t phases_;
  bool quiet_;
  bool terminal_;
  std::size_t number_ = 0;
  double done_ = 0;
  int drawn_percent_ = -1;
  int drawn_of_phase_ = -1;
  std::string name_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace pyram::builder
