#pragma once
// How long work tells what it is doing. The rooms never print: they call this, and cli shows it.

#include <cstdint>
#include <string_view>

namespace sluice::base {

class Progress {
 public:
  virtual ~Progress() = default;

  /// A new phase starts ("verifying", "converting"), with `total_bytes` of work ahead.
  virtual void begin(std::string_view phase, std::uint64_t total_bytes) = 0;

  /// `bytes` more of the phase are done. Called from any thread, often; must be cheap.
  virtual void advance(std::uint64_t bytes) = 0;

  /// Something the user should know, in one sentence.
  virtual void warn(std::string_view message) = 0;
};

/// Tells nobody.
class NoProgress final : public Progress {
 public:
  void begin(std::string_view, std::uint64_t) override {}
  void advance(std::uint64_t) override {}
  void warn(std::string_view) override {}
};

}  // namespace sluice::base
