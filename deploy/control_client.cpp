#include "deploy/control_client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "support/error.h"
#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram::deploy {
namespace {

constexpr std::string_view kReady = "ready\n";
constexpr std::string_view kFailed = "failed: ";

UniqueFd connect_to(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& name = path.native();
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (name.size() < sizeof address.sun_path) {
    std::memcpy(static_cast<char*>(address.sun_path), name.c_str(), name.size() + 1);
  } else {
    errno = ENAMETOOLONG;
    fd.reset();
  }
  if (!fd ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw system_error(ExitCode::kFailed, errno, "ask the service at " + quote(name), "restart it");
  }
  return fd;
}

}  // namespace

void ask_for_reload(const std::filesystem::path& socket) {
  const UniqueFd fd = connect_to(socket);
  std::string answer = read_to_end(fd.get(), quote(socket.native()));
  if (answer == kReady) return;
  if (!answer.starts_with(kFailed)) {
    throw Error(ExitCode::kFailed, "the service ended before it was ready");
  }
  answer.erase(0, kFailed.size());
  while (answer.ends_with('\n')) answer.pop_back();
  throw Error(ExitCode::kFailed, escape(answer));
}

}  // namespace pyram::deploy
