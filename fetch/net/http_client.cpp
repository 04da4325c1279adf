// One request runs in the caller's thread: perform() adds the easy handle to the multi handle and polls it
// until the transfer ends or a stop request wakes it. libcurl calls open_socket, take_header and take_body
// from there. These callbacks must not throw through C code, so they store an exception in `thrown_` and
// get() throws it again.
//
// Redirects are followed here and not by libcurl (CURLOPT_FOLLOWLOCATION stays off), because each hop has to
// pass the same checks as the first URL: its scheme, and whether its address is private.
//
// Invariant: no connection is opened to a private address unless the options, or the address of the first
// URL, allow it.

#include "fetch/net/http_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include "base/ascii.h"
#include "base/error.h"
#include "fetch/net/address.h"

namespace sluice::fetch {
namespace {

constexpr int kRedirectsMax = 5;
// Bounds all heads of a request together, so that a server cannot keep a fetch busy with headers.
constexpr std::uint64_t kHeadBytesMax = 64 << 10;
/// Reading a redirect's body up to this size is cheaper than a new connection.
constexpr std::uint64_t kRedirectBytesMax = 64 << 10;
constexpr const char* kUserAgent = "Sluice/0.1";

// curl_global_init() is not thread-safe before libcurl 7.84, and a static is initialized once.
void init_curl_once() {
  static const CURLcode result = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (result != CURLE_OK) throw base::Error(base::ErrorKind::network, "libcurl does not start");
}

struct Free {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};

HttpAnswer unusable(std::string why) { return {.outcome = HttpOutcome::unusable, .why = std::move(why)}; }

/// Seconds, or a date. A server must not be able to put a mirror to sleep for hours.
std::chrono::seconds parse_retry_after(const std::string& value) {
  constexpr std::int64_t kLongest = 300;
  std::int64_t seconds = 0;
  if (const auto number = base::parse_uint(value)) {
    seconds = static_cast<std::int64_t>(std::min<std::uint64_t>(*number, kLongest));
  } else if (const time_t date = curl_getdate(value.c_str(), nullptr); date != -1) {
    seconds = std::int64_t{date} - std::int64_t{std::time(nullptr)};
  }
  return std::chrono::seconds(std::clamp<std::int64_t>(seconds, 0, kLongest));
}

std::string to_address(const sockaddr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* bytes = nullptr;
  if (address.sa_family == AF_INET) bytes = &reinterpret_cast<const sockaddr_in&>(address).sin_addr;
  if (address.sa_family == AF_INET6) bytes = &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  if (bytes == nullptr || inet_ntop(address.sa_family, bytes, text.data(), text.size()) == nullptr) return "";
  return text.data();
}

}  // namespace

/// Two libcurl handles: `easy_` describes the request; `multi_` performs it and keeps the connections. A
/// multi handle is needed because only that can be woken from another thread.
class HttpClient::Impl {
 public:
  Impl(const HttpOptions& options, std::stop_token stop) : options_(options), stop_(std::move(stop)) {
    init_curl_once();
    multi_.reset(curl_multi_init());
    easy_.reset(curl_easy_init());
    // A compressed body could not be requested in ranges, and model weights do not compress.
    headers_.reset(curl_slist_append(nullptr, "Accept-Encoding: identity"));
    if (!multi_ || !easy_ || !headers_) throw base::Error(base::ErrorKind::network, "libcurl does not start");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_USERAGENT, kUserAgent);
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // the environment may name a proxy
    // HTTP/2 has no advantage with one request at a time.
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_BUFFERSIZE, 256L << 10);
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(options.total_timeout.count()));
    set(CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(options.stall_below_bytes_per_s));
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall_timeout.count()));
    // libcurl ignores these variables; OpenSSL, and so libtorrent for trackers, honours them.
    if (const char* file = std::getenv("SSL_CERT_FILE"); file != nullptr && *file != '\0')
      set(CURLOPT_CAINFO, file);
    if (const char* folder = std::getenv("SSL_CERT_DIR"); folder != nullptr && *folder != '\0')
      set(CURLOPT_CAPATH, folder);
    set(CURLOPT_ERRORBUFFER, error_text_.data());
    set(CURLOPT_OPENSOCKETDATA, this);
    set(CURLOPT_OPENSOCKETFUNCTION, &open_socket);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_HEADERFUNCTION, &take_header);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_WRITEFUNCTION, &take_body);
  }

  /// `first_hop` is 0 for a URL from the user or the release, 1 for the target of an earlier redirect.
  HttpAnswer get(std::string url, int first_hop, const std::string& range, const HttpSink& sink) {
    // libcurl would accept more, such as a user name or a URL without a scheme.
    if (!parse_url(url)) return unusable("it is not a usable URL");
    sink_ = &sink;
    set(CURLOPT_RANGE, range.empty() ? nullptr : range.c_str());
    for (hop_ = first_hop; hop_ <= kRedirectsMax; ++hop_) {
      // A literal address is refused before it is connected to; open_socket() checks names once they are
      // resolved.
      if (!may_be_private() && host_is_private(url)) return private_address();
      const CURLcode code = perform(url);
      if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
      if (stop_.stop_requested()) return {.outcome = HttpOutcome::stopped};
      const auto next = redirect();
      if (!next) {
        HttpAnswer answer = finish(code);
        if (hop_ > 0) answer.redirected_to = url;
        return answer;
      }
      if (auto refused = check_redirect(url, *next)) return *refused;
      url = *next;
    }
    return unusable("more than " + std::to_string(kRedirectsMax) + " redirects");
  }

 private:
  template <typename T>
  void set(CURLoption option, T value) {
    if (curl_easy_setopt(easy_.get(), option, value) != CURLE_OK)
      throw base::Error(base::ErrorKind::network, "libcurl lacks an option");
  }

  // ---- One request ----

  CURLcode perform(const std::string& url) {
    head_ = {};
    unwanted_ = head_bytes_ = 0;
    head_complete_ = met_private_ = false;
    error_text_.fill('\0');
    set(CURLOPT_URL, url.c_str());
    const std::stop_callback wake(stop_, [this] { curl_multi_wakeup(multi_.get()); });
    if (curl_multi_add_handle(multi_.get(), easy_.get()) != CURLM_OK) return CURLE_FAILED_INIT;
    const CURLcode code = drive();
    // Without this, removing the handle waits for the resolver's thread.
    if (stop_.stop_requested()) set(CURLOPT_QUICK_EXIT, 1L);
    curl_multi_remove_handle(multi_.get(), easy_.get());
    return code;
  }

  CURLcode drive() {
    int running = 1;
    while (!stop_.stop_requested()) {
      if (curl_multi_perform(multi_.get(), &running) != CURLM_OK) return CURLE_FAILED_INIT;
      if (running == 0) break;
      if (curl_multi_poll(multi_.get(), nullptr, 0, 1000, nullptr) != CURLM_OK) return CURLE_FAILED_INIT;
    }
    // libcurl queues one message per finished transfer. After a stop there is none.
    int left = 0;
    const CURLMsg* message = curl_multi_info_read(multi_.get(), &left);
    return message != nullptr ? message->data.result : CURLE_ABORTED_BY_CALLBACK;
  }

  /// An answer counts as given once its head is complete. A body that breaks off is the caller's business,
  /// who may resume it with another range.
  [[nodiscard]] HttpAnswer finish(CURLcode code) const {
    if (met_private_ && !head_complete_) return private_address();
    if (head_bytes_ > kHeadBytesMax) return unusable("the answer's head is too long");
    if (!head_complete_) return check_failure(code);
    return {.outcome = HttpOutcome::answered,
            .head = head_,
            .complete = code == CURLE_OK,
            .stalled = code == CURLE_OPERATION_TIMEDOUT};
  }

  /// A transfer without an answer. `failed`, the default outcome, means that a later attempt may succeed. A
  /// certificate that is not trusted stays so, and asking again would only hide it.
  [[nodiscard]] HttpAnswer check_failure(CURLcode code) const {
    switch (code) {
      case CURLE_COULDNT_RESOLVE_HOST: return {.why = "the server's name cannot be looked up"};
      case CURLE_COULDNT_RESOLVE_PROXY: return {.why = "the proxy's name cannot be looked up"};
      case CURLE_COULDNT_CONNECT: return {.why = "the server cannot be reached"};
      case CURLE_OPERATION_TIMEDOUT: return {.why = "the server does not answer"};
      case CURLE_PEER_FAILED_VERIFICATION:
        return unusable(std::string("the server's certificate is not trusted: ") + error_text_.data());
      case CURLE_OK:
      case CURLE_GOT_NOTHING:
      case CURLE_RECV_ERROR: return {.why = "the server ends the connection without an answer"};
      default: return {.why = std::string("the transfer fails: ") + curl_easy_strerror(code)};
    }
  }

  // ---- Redirects and addresses ----

  [[nodiscard]] std::optional<std::string> redirect() const {
    // 304 Not Modified is not a redirect; 300 Multiple Choices has no single target.
    if (!head_complete_ || head_.status < 301 || head_.status > 308 || head_.status == 304)
      return std::nullopt;
    // libcurl has resolved the Location header against the URL of the request, so a relative one arrives as a
    // whole URL.
    char* url = nullptr;
    curl_easy_getinfo(easy_.get(), CURLINFO_REDIRECT_URL, &url);
    return url != nullptr ? std::optional<std::string>(url) : std::nullopt;
  }

  static std::optional<HttpAnswer> check_redirect(const std::string& from, const std::string& to) {
    const auto url = parse_url(to);
    if (!url || (url->scheme != "http" && url->scheme != "https"))
      return unusable("it redirects to what is not a usable URL");
    // The user asked for an authenticated server, and a redirect must not give that up silently.
    if (url->scheme == "http" && parse_url(from)->scheme == "https")
      return unusable("it redirects from https to http");
    return std::nullopt;
  }

  /// The first URL may be private if the user named it; a redirect only if the first URL was. A public server
  /// must not be able to send the client to a service of the user's own network (server-side request
  /// forgery).
  [[nodiscard]] bool may_be_private() const {
    return options_.allow_private || (hop_ == 0 ? options_.trusted : first_is_private_);
  }

  static bool host_is_private(const std::string& url) {
    const auto parsed = parse_url(url);
    return parsed && is_private_host(parsed->host.host);
  }

  [[nodiscard]] HttpAnswer private_address() const {
    return unusable(hop_ == 0 ? "it is at a private address" : "it redirects to a private address");
  }

  // ---- Callbacks of libcurl ----

  // libcurl calls this with the address that it is about to connect to. Checking the name's addresses
  // beforehand would not suffice: a hostile name server can give another answer to the second look-up (DNS
  // rebinding).
  static curl_socket_t open_socket(void* client, curlsocktype, curl_sockaddr* address) noexcept {
    auto& self = *static_cast<Impl*>(client);
    try {
      const std::string text = to_address(address->addr);
      const bool is_private = text.empty() || is_private_host(text);
      // An address family that is not known here counts as private, because it cannot be checked.
      if (is_private && !self.may_be_private()) {
        self.met_private_ = true;
        return CURL_SOCKET_BAD;
      }
      if (is_private && self.hop_ == 0) self.first_is_private_ = true;
      return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    } catch (...) {
      self.thrown_ = std::current_exception();
      return CURL_SOCKET_BAD;
    }
  }

  // A callback of libcurl ends the transfer by returning anything else than the length.
  static std::size_t take_header(const char* data, std::size_t, std::size_t length, void* client) noexcept {
    auto& self = *static_cast<Impl*>(client);
    try {
      // Counts the heads of all responses to the request, such as "100 Continue" and redirects.
      self.head_bytes_ += length;
      if (self.head_bytes_ > kHeadBytesMax) return 0;
      self.take_header_line({data, length});
      return length;
    } catch (...) {
      self.thrown_ = std::current_exception();
      return 0;
    }
  }

  static std::size_t take_body(const char* data, std::size_t, std::size_t length, void* client) noexcept {
    auto& self = *static_cast<Impl*>(client);
    try {
      return self.pass_body({data, length}) ? length : 0;
    } catch (...) {
      self.thrown_ = std::current_exception();
      return 0;
    }
  }

  // Takes one line of a head, as RFC 9112 defines it. A line that begins with "HTTP/" starts a new head; an
  // empty line ends it. Interim responses (status 1xx) are followed by the real one, so they never complete a
  // head.
  void take_header_line(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n' || line.back() == ' '))
      line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {  // also after "100 Continue"
      head_ = {};
      head_complete_ = false;
      const std::size_t space = std::min(line.find(' '), line.size() - 1);
      head_.status = static_cast<long>(base::parse_uint(line.substr(space + 1, 3)).value_or(0));
      return;
    }
    if (line.empty() && head_.status >= 200) head_complete_ = true;
    const std::size_t colon = line.find(':');
    if (colon == line.npos) return;
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    const auto is = [&](std::string_view name) {
      return base::equals_ignoring_case(line.substr(0, colon), name);
    };
    if (is("content-range")) head_.content_range = value;
    if (is("content-encoding")) head_.content_encoding = value;
    if (is("content-length")) head_.content_length = base::parse_uint(value);
    if (is("retry-after")) {
      head_.retry_after = parse_retry_after(std::string(value));
    }
  }

  /// Passes a part of the body to the sink, or skips the body of a redirect. Returns false to end the
  /// transfer.
  bool pass_body(std::span<const char> bytes) {
    if (stop_.stop_requested()) return false;
    if (head_.status < 300 || head_.status >= 400) return (*sink_)(head_, bytes);
    unwanted_ += bytes.size();
    return unwanted_ <= kRedirectBytesMax;
  }

  HttpOptions options_;
  std::stop_token stop_;
  std::unique_ptr<curl_slist, Free> headers_;
  std::unique_ptr<CURLM, Free> multi_;
  std::unique_ptr<CURL, FreeEasy> easy_;  // destroyed first, because it uses the two above

  bool first_is_private_ = false;  // the first URL led to a private address, so redirects may, too

  // The request in progress:
  const HttpSink* sink_ = nullptr;
  int hop_ = 0;
  HttpHead head_;
  std::uint64_t unwanted_ = 0;
  std::uint64_t head_bytes_ = 0;
  bool head_complete_ = false;
  bool met_private_ = false;
  std::array<char, CURL_ERROR_SIZE> error_text_{};
  std::exception_ptr thrown_;
};

HttpClient::HttpClient(const HttpOptions& options, std::stop_token stop)
    : impl_(std::make_unique<Impl>(options, std::move(stop))) {}

HttpClient::~HttpClient() = default;

HttpAnswer HttpClient::get(const std::string& url, const std::string& range, const HttpSink& sink) {
  return impl_->get(url, 0, range, sink);
}

HttpAnswer HttpClient::get_redirected(const std::string& url, const std::string& range,
                                      const HttpSink& sink) {
  return impl_->get(url, 1, range, sink);
}

}  // namespace sluice::fetch
