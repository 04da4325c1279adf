#pragma once
// Faults of a template and the limits of one rendering. A template comes from a stranger, so what it may cost
// is counted in numbers that do not depend on the machine: steps, bytes and depth.

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"

namespace sluice::text::jinja {

constexpr std::size_t kTemplateBytesMax = std::size_t{1} << 20;
constexpr std::size_t kTextBytesMax = std::size_t{16} << 20;   ///< of one text, and of the result
constexpr std::size_t kMadeBytesMax = std::size_t{256} << 20;  ///< of all values that a rendering makes
constexpr std::uint64_t kStepsMax = 20'000'000;                ///< expressions, statements, compared values
constexpr int kSyntaxDepthMax = 100;         ///< levels of brackets and blocks in a template
constexpr int kEvaluationDepthMax = 400;     ///< levels of calls, blocks and expressions
constexpr int kValueDepthMax = 100;          ///< levels of lists within lists
constexpr std::int64_t kRangeMax = 100'000;  ///< Jinja's sandbox, MAX_RANGE

/// An operation that fails. The evaluator adds the line and makes a base::Error of it.
struct Fault {
  std::string message;
  base::ErrorKind kind = base::ErrorKind::malformed;
};

[[noreturn]] inline void fail(std::string message) { throw Fault{.message = std::move(message)}; }

/// Counts what one rendering has used.
class Budget {
 public:
  void step(std::uint64_t count = 1) {
    steps_ += count;
    if (steps_ > kStepsMax) fail("the template takes more than " + std::to_string(kStepsMax) + " steps");
  }
  /// Counts memory that a new value takes, and the time to fill it.
  void make(std::size_t bytes) {
    made_bytes_ += bytes;
    step(bytes / 64);
    if (made_bytes_ > kMadeBytesMax)
      fail("the template's values take more than " + std::to_string(kMadeBytesMax) + " bytes");
  }

 private:
  std::uint64_t steps_ = 0;
  std::size_t made_bytes_ = 0;
};

}  // namespace sluice::text::jinja
