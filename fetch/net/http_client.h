#pragma once
// An HTTP(S) client for one server, with persistent connections. An HttpClient belongs to one thread. Only
// this class uses libcurl.
//
// The server is not trusted: heads, redirects and waiting times are bounded, and the sink bounds the body.
// The client follows redirects itself, because it checks each one: http and https only, never from https to
// http, and to a private address only where the user's own URL leads to one. The check uses the address of
// the actual connection, after the name was resolved, so that a name cannot resolve to another address in
// between.

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
  bool allow_private = false;  ///< connections to private addresses are allowed
  bool trusted = false;        ///< the user named the URLs; redirects are not trusted nevertheless
  std::chrono::milliseconds connect_timeout{15'000};
  std::chrono::seconds stall_timeout{30};        ///< a transfer fails after this time below the rate
  std::uint64_t stall_below_bytes_per_s = 1024;  ///< 0: a slow transfer never fails
  std::chrono::milliseconds total_timeout{0};    ///< of a request with its redirects' bodies; 0: none
};

/// The parts of a response's status line and headers that matter here.
struct HttpHead {
  long status = 0;
  std::string content_range;
  std::string content_encoding;
  std::optional<std::uint64_t> content_length;
  /// The Retry-After header, as seconds or a date (RFC 9110, 10.2.3), at most five minutes.
  std::optional<std::chrono::seconds> retry_after;

  /// True when the body has an encoding that the request did not accept.
  [[nodiscard]] bool is_encoded() const {
    return !content_encoding.empty() && content_encoding != "identity";
  }
};

enum class HttpOutcome : std::uint8_t {
  answered,  ///< a complete head arrived, and perhaps part of the body
  failed,    ///< a retry may succeed
  unusable,  ///< the server should not be asked again
  stopped,
};

struct HttpAnswer {
  HttpOutcome outcome = HttpOutcome::failed;
  std::string why = {};            ///< set for failed and unusable, such as "the server does not answer"
  HttpHead head = {};              ///< set for answered, like the members below
  std::string redirected_to = {};  ///< the URL that answered, where redirects led to it
  bool complete = false;           ///< the whole body arrived
  bool stalled = false;            ///< the body is incomplete because the server stopped sending
};

/// Receives the parts of the final response's body in order. Returns false to end the transfer.
using HttpSink = std::function<bool(const HttpHead&, std::span<const char>)>;

class HttpClient final {
 public:
  /// A stop request ends a transfer in progress at once.
  HttpClient(const HttpOptions& options, std::stop_token stop);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// `range` is a byte range such as "0-99", or empty for the whole file. Nothing that a server does makes it
  /// throw.
  [[nodiscard]] HttpAnswer get(const std::string& url, const std::string& range, const HttpSink& sink);
  /// get() of a URL to which an earlier get() of this client was redirected: it is not trusted.
  [[nodiscard]] HttpAnswer get_redirected(const std::string& url, const std::string& range,
                                          const HttpSink& sink);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::fetch
