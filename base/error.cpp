// The switches have no default, so that the compiler reports a kind without exit code or name.

#include "base/error.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/invariant.h"

namespace sluice::base {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::verification: return 1;
    case ErrorKind::usage: return 2;
    case ErrorKind::incomplete: return 3;
    case ErrorKind::no_space: return 4;
    case ErrorKind::no_peers: return 5;
    case ErrorKind::network: return 6;
    case ErrorKind::interrupted: return 7;
    case ErrorKind::untrusted: return 8;
    case ErrorKind::malformed: return 9;
    case ErrorKind::io: return 10;
  }
  INVARIANT(!"an ErrorKind without exit code");
}

std::string_view to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::verification: return "verification";
    case ErrorKind::usage: return "usage";
    case ErrorKind::incomplete: return "incomplete";
    case ErrorKind::no_space: return "no_space";
    case ErrorKind::no_peers: return "no_peers";
    case ErrorKind::network: return "network";
    case ErrorKind::interrupted: return "interrupted";
    case ErrorKind::untrusted: return "untrusted";
    case ErrorKind::malformed: return "malformed";
    case ErrorKind::io: return "io";
  }
  INVARIANT(!"an ErrorKind without name");
}

Error::Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}

void throw_malformed(std::string_view subject, std::string_view message) {
  throw Error(ErrorKind::malformed, std::string(subject) + ": " + std::string(message));
}

void throw_errno(const std::filesystem::path& path, std::string_view operation, int errno_value) {
  const bool full = errno_value == ENOSPC || errno_value == EDQUOT;
  throw Error(full ? ErrorKind::no_space : ErrorKind::io, path.string() + ": cannot " +
                                                              std::string(operation) + ": " +
                                                              std::generic_category().message(errno_value));
}

}  // namespace sluice::base
