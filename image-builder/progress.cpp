#include "image-builder/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace pyram::builder {
namespace {

constexpr std::size_t kBarWidth = 24;

bool is_terminal() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace

Progress::Progress(std::size_t phases, bool quiet)
    : phases_(std::max<std::size_t>(phases, 1)), quiet_(quiet), terminal_(is_terminal()) {}

Progress::~Progress() { wipe(); }

void Progress::phase(std::string_view name) {
  ++number_;
  done_ = 0;
  drawn_percent_ = -1;
  name_ = name;
  if (quiet_) return;
  if (terminal_) {
    draw();
  } else {
    std::fprintf(stderr, "pyram-image: [%zu/%zu] %s\n", number_, std::max(phases_, number_),
                 name_.c_str());
  }
}

void Progress::step(double done) {
  done_ = std::clamp(done, 0.0, 1.0);
  if (!quiet_ && terminal_) draw();
}

void Progress::note(std::string_view text) {
  if (quiet_) return;
  wipe();
  std::fprintf(stderr, "pyram-image: %.*s\n", static_cast<int>(text.size()), text.data());
  if (terminal_ && number_ > 0) draw();
}

void Progress::finish() {
  wipe();
  number_ = 0;
}

void Progress::draw() {
  const double whole = (static_cast<double>(number_ - 1) + done_) / static_cast<double>(phases_);
  const int percent = static_cast<int>(std::min(whole, 1.0) * 100);
  const int of_phase = static_cast<int>(done_ * 100);
  if (percent == drawn_percent_ && of_phase == drawn_of_phase_) return;
  drawn_percent_ = percent;
  drawn_of_phase_ = of_phase;
  const auto full = static_cast<std::size_t>(std::min(whole, 1.0) * kBarWidth);
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start_);
  std::string line = "[" + std::string(full, '#') + std::string(kBarWidth - full, '.') + "] " +
                     std::to_string(percent) + "% " + std::to_string(seconds.count()) + " s  " +
                     name_ + (of_phase > 0 ? ", " + std::to_string(of_phase) + "%" : "");
  const std::size_t width = terminal_width();
  if (line.size() >= width) line.resize(width - 1);
  std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
  std::fflush(stderr);
}

void Progress::wipe() {
  if (quiet_ || !terminal_ || number_ == 0) return;
  std::fprintf(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

}  // namespace pyram::builder
