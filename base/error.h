#pragma once
// The one exception type of Sluice, and the exit code of each of its kinds.
//
// A message is one sentence that names the subject, the place, the expected value and the found one:
//   model.sluice: tensor 'layers.3.attention.wq.weight': ends at byte 812, the file has 800
// Normal outcomes (a wrong hash in a report, a file that does not exist) are values, never an Error.
// Bugs are not Errors either: see invariant.h.

#include <cstdint>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>

namespace sluice::base {

/// Kinds of failure, by what the user can do about them. The exit codes are those of `sluice --help`.
enum class ErrorKind : std::uint8_t {
  verification,  ///< exit 1: bytes are not the expected bytes, or there was nothing to compare with
  usage,         ///< exit 2: the command line asks for something that does not exist
  incomplete,    ///< exit 3: not finished, can be resumed
  no_space,      ///< exit 4: the disk is full
  no_peers,      ///< exit 5: no peer delivered in time
  network,       ///< exit 6
  interrupted,   ///< exit 7: stopped by the user, can be resumed
  untrusted,     ///< exit 8: a signature is missing, bad or by an unknown key
  malformed,     ///< exit 9: input is damaged, unsafe or of a kind that is not supported
  io,            ///< exit 10: the operating system reported an error
};

/// The process exit code of a kind.
[[nodiscard]] int exit_code(ErrorKind kind);

/// The kind's name in JSON output, for example "no_space".
[[nodiscard]] std::string_view to_string(ErrorKind kind);

class Error final : public std::exception {
 public:
  Error(ErrorKind kind, std::string message);

  [[nodiscard]] ErrorKind kind() const { return kind_; }
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorKind kind_;
  std::string message_;
};

/// Throws Error{malformed, "SUBJECT: MESSAGE"}.
[[noreturn]] void throw_malformed(std::string_view subject, std::string_view message);

/// Throws the Error of `errno_value`: "PATH: cannot OPERATION: cause". Disk full is no_space, else io.
[[noreturn]] void throw_errno(const std::filesystem::path& path, std::string_view operation, int errno_value);

}  // namespace sluice::base
