#pragma once
// Parts of files over HTTP(S). An answer counts only when its head says that it is the part that was asked
// for, of a file of the right length; what is too long is cut off.

#include <chrono>
#include <cstdint>
#include <functional>
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
  std::uint64_t file_bytes = 0;    ///< length of the whole file; another one is another file
};

enum class RangeOutcome : std::uint8_t {
  complete,
  file_unusable,    ///< not there, another file, or only to be had as a whole: asking again is of no use
  server_unusable,  ///< nothing of this server should be asked for again
  failed,           ///< may work later
  stopped,
};

struct RangeAnswer {
  RangeOutcome outcome = RangeOutcome::failed;
  std::uint64_t received_bytes = 0;     ///< from the start of the range, all given to the sink
  std::string why = {};                 ///< unless complete or stopped: "does not answer"
  bool absent = false;                  ///< file_unusable because it is not there
  std::chrono::seconds retry_after{0};  ///< the server's wish
};

/// Bytes of the range, in order, each once.
using RangeSink = std::function<void(std::uint64_t offset_in_range, std::span<const char>)>;

/// One server's; belongs to one thread.
class HttpRanges final {
 public:
  /// `stop` ends a request that is under way at once.
  HttpRanges(const HttpOptions& options, std::stop_token stop) : client_(options, std::move(stop)) {}

  /// Does not throw for anything that a server does.
  [[nodiscard]] RangeAnswer get(const RangeRequest& request, const RangeSink& sink);

 private:
  HttpClient client_;
};

/// A path below a URL: what is not unreserved in a URL (RFC 3986) is percent-encoded, '/' is kept.
[[nodiscard]] std::string percent_encode_path(std::string_view path);

}  // namespace sluice::fetch
