#pragma once
// What a worker says, as values. A worker talks to strangers and may have been taken over by one, so that
// nothing of this is believed that could do harm: lengths and numbers are bounded, unknown things refused,
// and what an event claims is checked by other means (the .torrent's hashes, the journal).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "fetch/fetch.h"

namespace sluice::fetch {

/// A line is at most this long; a longer one ends the worker.
constexpr std::size_t kEventBytesMax = 64 << 10;

struct TransferCounts {
  std::uint64_t downloaded_bytes = 0;
  std::uint64_t rehashed_bytes = 0;
};

struct StatusEvent {
  FetchStatus status;  ///< without `waiting`
  TransferCounts counts;
  std::optional<std::uint64_t> complete;
  std::optional<std::uint64_t> incomplete;
};

struct WarningEvent {
  std::string message;
};

struct TrackerEvent {
  std::string url;
  std::string message;
};

struct ErrorEvent {
  base::ErrorKind kind;  ///< one that a transfer can end with
  std::string message;
};

struct EndEvent {
  bool done;  ///< else stopped
  TransferCounts counts;
};

using WorkerEvent = std::variant<StatusEvent, WarningEvent, TrackerEvent, ErrorEvent, EndEvent>;

/// Texts come out printable. Error{malformed} for everything that is no event.
[[nodiscard]] WorkerEvent parse_event(std::string_view line);

}  // namespace sluice::fetch
