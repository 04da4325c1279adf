#include "cli/standard_input.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/error.h"
#include "base/text.h"

namespace sluice::cli {

bool has_piped_input() {
  struct stat status {};
  if (::fstat(STDIN_FILENO, &status) != 0) return false;
  return S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode);
}

// Polls `stop` while no input arrives, so that Ctrl-C works at a terminal.
std::string read_standard_input(std::uint64_t bytes_max, const std::stop_token& stop) {
  constexpr int kPollMs = 100;
  std::string text;
  std::array<char, 1 << 16> buffer{};
  while (true) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    struct pollfd input {
      STDIN_FILENO, POLLIN, 0
    };
    // read() alone would not return on Ctrl-C, because the handler is installed with SA_RESTART.
    if (::poll(&input, 1, kPollMs) <= 0) continue;  // nothing yet, or a signal
    const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count < 0) base::throw_errno("standard input", "read", errno);
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > bytes_max)
      base::throw_malformed("standard input", "has more than " + base::to_human_bytes(bytes_max));
  }
}

}  // namespace sluice::cli
