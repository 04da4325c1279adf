#pragma once
// Says in words for the user why a transfer receives nothing.

#include <cstddef>
#include <optional>
#include <string>

namespace sluice::fetch {

struct TransferState {
  bool metadata = false;  ///< waits for metadata; else for payload
  unsigned peers = 0;     ///< connected
  bool unproven = false;  ///< bytes have come, and nothing of them has proven right so far
  std::size_t trackers = 0;
  std::size_t failing_trackers = 0;
  std::optional<double> availability;
};

/// "no peers; 2 of 3 trackers fail", "the connected peers lack parts of it (availability 0.63)", ...
[[nodiscard]] std::string stall_reason(const TransferState& state);

}  // namespace sluice::fetch
