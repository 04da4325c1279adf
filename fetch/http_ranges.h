#pragma once
// Parts of files over HTTP(S). One HttpRanges is a client of one server, with connections that are kept; it
// belongs to one thread. The only place that knows libcurl.
//
// The server is not believed: an answer counts only when its head says that it is the part that was asked
// for, of a file of the right length; what is too long is cut off; heads, redirects and waiting are bounded.
// Redirects are followed here and not by libcurl, because each is judged: http and https only, never from
// https to http, and to a private address only where the user's own words lead. That is judged by the address
// that is really connected to, after the name has been looked up, so that a name cannot change in between.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>

namespace sluice::fetch {

struct HttpOptions {
  bool allow_private = false;  ///< any address may be connected to
  bool trusted = false;        ///< the URLs asked for are the user's word; where they redirect to is not
  std::chrono::milliseconds connect_timeout{15'000};
  std::chrono::seconds stall_timeout{30};        ///< this long below:
  std::uint64_t stall_below_bytes_per_s = 1024;  ///< 0: never
};

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

class HttpRanges final {
 public:
  /// `stop` ends a request that is under way at once.
  HttpRanges(const HttpOptions& options, std::stop_token stop);
  ~HttpRanges();
  HttpRanges(const HttpRanges&) = delete;
  HttpRanges& operator=(const HttpRanges&) = delete;

  /// Does not throw for anything that a server does.
  [[nodiscard]] RangeAnswer get(const RangeRequest& request, const RangeSink& sink);

 private:
  class Client;
  std::unique_ptr<Client> client_;
};

/// A path below a URL: what is not unreserved in a URL (RFC 3986) is percent-encoded, '/' is kept.
[[nodiscard]] std::string percent_encode_path(std::string_view path);

}  // namespace sluice::fetch
