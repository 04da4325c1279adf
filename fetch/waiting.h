#pragma once
// Why nothing arrives, in words for the user.

#include <cstddef>
#include <optional>
#include <string>

namespace sluice::fetch {

struct Situation {
  bool metadata = false;  ///< waits for that, else for payload
  unsigned peers = 0;     ///< connected
  std::size_t trackers = 0;
  std::size_t failing_trackers = 0;
  std::optional<double> availability;
};

/// "no peers; 2 of 3 trackers fail", "the connected peers lack parts of it (availability 0.63)", ...
[[nodiscard]] std::string waiting_reason(const Situation& situation);

}  // namespace sluice::fetch
