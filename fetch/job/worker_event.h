#pragma once
// Parses the events of a worker. A worker talks to strangers and may have been taken over by one, so its
// events are not trusted: lengths and numbers are bounded, unknown events are refused, and claims are checked
// by other means (the .torrent's hashes and the journal).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "fetch/fetch.h"

namespace sluice::fetch {

/// The parent ends a worker that writes a longer line.
constexpr std::size_t kEventBytesMax = 64 << 10;

struct TransferCounts {
  std::uint64_t downloaded_bytes = 0;
  std::uint64_t rehashed_bytes = 0;
  std::uint64_t adopted_bytes = 0;               ///< as in FetchResult
  std::optional<std::uint64_t> believed_bytes;   ///< as in FetchResult; set once the disk is checked
  std::optional<std::uint64_t> believed_pieces;  ///< set together with believed_bytes
};

struct StatusEvent {
  FetchStatus status;  ///< without `stall_reason`
  TransferCounts counts;
  std::uint64_t proven_bytes = 0;    ///< verified since the worker started
  std::uint64_t unproven_bytes = 0;  ///< may still be of use, the proven ones among them
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
  base::ErrorKind kind;  ///< only kinds that a transfer can end with
  std::string message;
};

struct EndEvent {
  bool done;  ///< false: stopped
  TransferCounts counts;
};

using WorkerEvent = std::variant<StatusEvent, WarningEvent, TrackerEvent, ErrorEvent, EndEvent>;

/// Makes texts printable. Error{malformed} for everything that is not an event.
[[nodiscard]] WorkerEvent parse_event(std::string_view line);

}  // namespace sluice::fetch
