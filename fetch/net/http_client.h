#pragma once
// Answers of an HTTP(S) server. One HttpClient asks one server, with connections that are kept; it belongs to
// one thread. The only place that knows libcurl.
//
// The server is not believed: heads, redirects and waiting are bounded; the body is bounded by who takes it.
// Redirects are followed here and not by libcurl, because each is judged: http and https only, never from
// https to http, and to a private address only where the user's own words lead. That is judged by the address
// that is really connected to, after the name has been looked up, so that a name cannot change in between.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
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

/// An answer's status line and headers, as far as they matter.
struct HttpHead {
  long status = 0;
  std::string content_range;
  std::string content_encoding;
  std::optional<std::uint64_t> content_length;
  std::chrono::seconds retry_after{0};  ///< the server's wish, at most five minutes

  /// Encoded in a way that was not asked for.
  [[nodiscard]] bool is_encoded() const {
    return !content_encoding.empty() && content_encoding != "identity";
  }
};

enum class HttpOutcome : std::uint8_t {
  answered,  ///< with a head, and with as much of a body as came
  failed,    ///< may work later
  unusable,  ///< nothing of this server should be asked for again
  stopped,
};

struct HttpAnswer {
  HttpOutcome outcome = HttpOutcome::failed;
  std::string why = {};   ///< unless answered or stopped: "the server does not answer"
  HttpHead head = {};     ///< when answered, and what follows
  bool complete = false;  ///< the body came as the head says
  bool stalled = false;   ///< it did not, because the server stopped sending
};

/// A part of an answer's body, in order; not of a redirect. False: no more of it is wanted.
using HttpSink = std::function<bool(const HttpHead&, std::span<const char>)>;

class HttpClient final {
 public:
  /// `stop` ends a request that is under way at once.
  HttpClient(const HttpOptions& options, std::stop_token stop);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// `range`: "0-99", or empty for everything. Does not throw for anything that a server does.
  [[nodiscard]] HttpAnswer get(const std::string& url, const std::string& range, const HttpSink& sink);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::fetch
