#pragma once
// Byte ranges of files over HTTP(S). A response counts only when its head says that it is the requested range
// of a file of the expected length; surplus bytes are cut off. A server that knows no ranges (status 200) can
// still be read from the start of a file.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>

#include "fetch/net/http_client.h"

namespace sluice::fetch {

struct RangeRequest {
  std::string url;
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;  ///< not 0
  std::uint64_t file_bytes = 0;    ///< expected length of the whole file; a file of another length is refused
};

enum class RangeOutcome : std::uint8_t {
  complete,
  file_unusable,    ///< absent, of another length, or not what was asked for: a retry cannot succeed
  whole_only,       ///< the server sends the file from its start only, whatever range is asked for
  server_unusable,  ///< the server should not be asked again
  failed,           ///< a retry may succeed
  stopped,
};

struct RangeAnswer {
  RangeOutcome outcome = RangeOutcome::failed;
  std::uint64_t received_bytes = 0;  ///< from the start of the range, all passed to the sink
  std::string why = {};              ///< set unless complete or stopped, such as "does not answer"
  bool absent = false;               ///< file_unusable because the server does not have the file
  bool refused = false;              ///< failed with 401 or 403 behind a redirect, as an expired URL does
  std::optional<std::chrono::seconds> retry_after = {};  ///< the Retry-After header
};

/// Receives each byte of the range once, in order.
using RangeSink = std::function<void(std::uint64_t offset_in_range, std::span<const char>)>;

/// Ranges of the files of one server. An object belongs to one thread.
class HttpRanges final {
 public:
  /// A stop request ends a transfer in progress at once.
  HttpRanges(const HttpOptions& options, std::stop_token stop) : client_(options, std::move(stop)) {}

  /// Nothing that a server does makes it throw. Where a server redirects to signed URLs, as hubs do, the
  /// target is used again until it fails, since each file is fetched in many ranges; then the server is asked
  /// anew.
  [[nodiscard]] RangeAnswer get(const RangeRequest& request, const RangeSink& sink);

 private:
  HttpClient client_;
  std::map<std::string, std::string> redirects_;  // from the URL of a request to its last target
};

}  // namespace sluice::fetch
