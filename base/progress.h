#pragma once
// How long-running work reports its progress. The rooms never print: they call this interface, and cli
// prints.

#include <cstdint>
#include <string_view>

namespace sluice::base {

class Progress {
 public:
  virtual ~Progress() = default;

  /// Starts a phase ("verifying", "converting") with `total_bytes` of work.
  virtual void begin(std::string_view phase, std::uint64_t total_bytes) = 0;

  /// Adds `bytes` to the work done in the phase. Called often and from any thread: must be cheap.
  virtual void advance(std::uint64_t bytes) = 0;

  /// Tells the user something in one sentence.
  virtual void warn(std::string_view message) = 0;
};

/// Discards all reports.
class NoProgress final : public Progress {
 public:
  void begin(std::string_view, std::uint64_t) override {}
  void advance(std::uint64_t) override {}
  void warn(std::string_view) override {}
};

}  // namespace sluice::base
