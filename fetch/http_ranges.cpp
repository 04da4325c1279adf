#include "fetch/http_ranges.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "fetch/address.h"

namespace sluice::fetch {
namespace {

constexpr int kRedirectsMax = 5;
constexpr std::uint64_t kHeadBytesMax = 64 << 10;
/// Of an answer's body that is not wanted. So much is read, since closing the connection costs more.
constexpr std::uint64_t kUnwantedBytesMax = 64 << 10;
constexpr const char* kUserAgent = "Sluice/0.1";

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

/// "bytes 0-99/1000", "bytes */1000", "bytes 0-99/*" (RFC 9110, 14.4).
struct ContentRange {
  std::optional<std::pair<std::uint64_t, std::uint64_t>> first_last;
  std::optional<std::uint64_t> total;
};

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  const std::size_t slash = text.find('/');
  if (!text.starts_with(kUnit) || slash == text.npos) return std::nullopt;
  const std::string_view range = text.substr(kUnit.size(), slash - kUnit.size());
  const std::string_view total = text.substr(slash + 1);
  ContentRange found;
  if (total != "*" && !(found.total = parse_number(total))) return std::nullopt;
  if (range == "*") return found;
  const std::size_t dash = range.find('-');
  if (dash == range.npos) return std::nullopt;
  const auto first = parse_number(range.substr(0, dash));
  const auto last = parse_number(range.substr(dash + 1));
  if (!first || !last || *first > *last) return std::nullopt;
  found.first_last.emplace(*first, *last);
  return found;
}

RangeAnswer unusable_file(std::string why) {
  return {.outcome = RangeOutcome::file_unusable, .why = std::move(why)};
}

RangeAnswer unusable_server(std::string why) {
  return {.outcome = RangeOutcome::server_unusable, .why = std::move(why)};
}

RangeAnswer other_length(std::uint64_t found, std::uint64_t expected) {
  return unusable_file("it has " + std::to_string(found) + " bytes there, expected " +
                       std::to_string(expected));
}

/// An answer's status line and headers, as far as they matter.
struct Head {
  long status = 0;
  std::string content_range;
  std::string content_encoding;
  std::optional<std::uint64_t> content_length;
  std::chrono::seconds retry_after{0};
};

RangeAnswer judge_part(const Head& head, const RangeRequest& request) {
  const auto range = parse_content_range(head.content_range);
  if (!range || !range->first_last) return unusable_file("the answer does not say which part it is");
  if (range->total && *range->total != request.file_bytes)
    return other_length(*range->total, request.file_bytes);
  if (*range->first_last != std::pair(request.offset_bytes, request.offset_bytes + request.length_bytes - 1))
    return unusable_file("the answer is another part than was asked for");
  return {.outcome = RangeOutcome::complete};
}

RangeAnswer judge_whole(const Head& head, const RangeRequest& request) {
  if (head.content_length && *head.content_length != request.file_bytes)
    return other_length(*head.content_length, request.file_bytes);
  if (request.length_bytes != request.file_bytes)
    return unusable_file("the server does not send parts of it");
  return {.outcome = RangeOutcome::complete};
}

/// Complete: the body is what was asked for, if it has the right length.
RangeAnswer judge_head(const Head& head, const RangeRequest& request) {
  if ((head.status == 200 || head.status == 206) && !head.content_encoding.empty() &&
      head.content_encoding != "identity")
    return unusable_file("the server sends it in an encoding that was not asked for");
  const std::string why = "HTTP " + std::to_string(head.status);
  switch (head.status) {
    case 200: return judge_whole(head, request);
    case 206: return judge_part(head, request);
    case 404:
    case 410: return {.outcome = RangeOutcome::file_unusable, .why = why, .absent = true};
    case 408:
    case 425:
    case 429: return {.outcome = RangeOutcome::failed, .why = why, .retry_after = head.retry_after};
    case 416:
      if (const auto range = parse_content_range(head.content_range);
          range && range->total && *range->total != request.file_bytes)
        return other_length(*range->total, request.file_bytes);
      return unusable_file(why);
    default: break;
  }
  if (head.status >= 500)
    return {.outcome = RangeOutcome::failed, .why = why, .retry_after = head.retry_after};
  return unusable_file(why);
}

std::string cut_short(std::uint64_t received, std::uint64_t expected) {
  return "the answer ends after " + std::to_string(received) + " of " + std::to_string(expected) + " bytes";
}

RangeAnswer judge_failure(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST: return {.why = "the server's name cannot be looked up"};
    case CURLE_COULDNT_RESOLVE_PROXY: return {.why = "the proxy's name cannot be looked up"};
    case CURLE_COULDNT_CONNECT: return {.why = "the server cannot be reached"};
    case CURLE_OPERATION_TIMEDOUT: return {.why = "the server does not answer"};
    case CURLE_PEER_FAILED_VERIFICATION:
      return unusable_server("the server's certificate is not valid for it");
    case CURLE_OK:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR: return {.why = "the server ends the connection without an answer"};
    default: return {.why = std::string("the transfer fails: ") + curl_easy_strerror(code)};
  }
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

std::string percent_encode_path(std::string_view path) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  constexpr std::string_view kPlain = "-._~/";
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || kPlain.find(c) != kPlain.npos) {
      out += c;
    } else {
      out += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return out;
}

/// Two libcurl handles: `easy_` says what is asked for, `multi_` does it, keeps the connections and, other
/// than an easy handle alone, can be woken up.
class HttpRanges::Client {
 public:
  Client(const HttpOptions& options, std::stop_token stop) : options_(options), stop_(std::move(stop)) {
    init_curl_once();
    multi_.reset(curl_multi_init());
    easy_.reset(curl_easy_init());
    headers_.reset(curl_slist_append(nullptr, "Accept-Encoding: identity"));
    if (!multi_ || !easy_ || !headers_) throw base::Error(base::ErrorKind::network, "libcurl does not start");
    set(CURLOPT_PRIVATE, this);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_USERAGENT, kUserAgent);
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // of a proxy, which the environment may name
    // One request at a time: HTTP/2 has nothing to add.
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_BUFFERSIZE, 256L << 10);
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
    set(CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(options.stall_below_bytes_per_s));
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall_timeout.count()));
    // The certificates that OpenSSL's other users take, such as libtorrent for trackers.
    if (const char* file = std::getenv("SSL_CERT_FILE"); file != nullptr && *file != '\0')
      set(CURLOPT_CAINFO, file);
    set(CURLOPT_OPENSOCKETDATA, this);
    set(CURLOPT_OPENSOCKETFUNCTION, &open_socket);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_HEADERFUNCTION, &take_header);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_WRITEFUNCTION, &take_body);
  }

  RangeAnswer get(const RangeRequest& request, const RangeSink& sink) {
    std::string url = request.url;
    if (!parse_url(url)) return unusable_server("it is not a usable URL");
    for (int hop = 0; hop <= kRedirectsMax; ++hop) {
      begin(request, sink, hop);
      if (!may_be_private() && host_is_private(url)) return private_address();
      const CURLcode code = perform(url);
      if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
      if (stop_.stop_requested()) return {.outcome = RangeOutcome::stopped, .received_bytes = received_};
      const auto next = redirect();
      if (!next) return finish(code);
      if (auto refused = judge_redirect(url, *next)) return *refused;
      url = *next;
    }
    return unusable_server("more than " + std::to_string(kRedirectsMax) + " redirects");
  }

 private:
  template <typename T>
  void set(CURLoption option, T value) {
    if (curl_easy_setopt(easy_.get(), option, value) != CURLE_OK)
      throw base::Error(base::ErrorKind::network, "libcurl lacks an option");
  }

  // ---- One request ----

  void begin(const RangeRequest& request, const RangeSink& sink, int hop) {
    request_ = &request;
    sink_ = &sink;
    hop_ = hop;
    head_ = {};
    judged_.reset();
    received_ = unwanted_ = head_bytes_ = 0;
    head_complete_ = too_long_ = met_private_ = false;
  }

  CURLcode perform(const std::string& url) {
    const std::string range = std::to_string(request_->offset_bytes) + "-" +
                              std::to_string(request_->offset_bytes + request_->length_bytes - 1);
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_RANGE, range.c_str());
    const std::stop_callback wake(stop_, [this] { curl_multi_wakeup(multi_.get()); });
    if (curl_multi_add_handle(multi_.get(), easy_.get()) != CURLM_OK) return CURLE_FAILED_INIT;
    const CURLcode code = drive();
    // Else it would wait here for the resolver's thread.
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
    int left = 0;
    const CURLMsg* message = curl_multi_info_read(multi_.get(), &left);
    return message != nullptr ? message->data.result : CURLE_ABORTED_BY_CALLBACK;
  }

  RangeAnswer finish(CURLcode code) {
    if (met_private_ && !head_complete_) return private_address();
    if (head_bytes_ > kHeadBytesMax) return unusable_server("the answer's head is too long");
    if (!head_complete_) return judge_failure(code);
    RangeAnswer answer = judge_now();
    answer.received_bytes = received_;
    if (answer.outcome != RangeOutcome::complete) return answer;
    if (too_long_) {
      answer.outcome = RangeOutcome::failed;
      answer.why = "the answer is longer than the " + std::to_string(request_->length_bytes) +
                   " bytes that were asked for";
    } else if (received_ < request_->length_bytes) {
      answer.outcome = RangeOutcome::failed;
      answer.why = code == CURLE_OPERATION_TIMEDOUT ? "the server stops answering"
                                                    : cut_short(received_, request_->length_bytes);
    }
    return answer;
  }

  RangeAnswer& judge_now() {
    if (!judged_) judged_ = judge_head(head_, *request_);
    return *judged_;
  }

  // ---- Redirects and addresses ----

  [[nodiscard]] std::optional<std::string> redirect() const {
    if (!head_complete_ || head_.status < 301 || head_.status > 308 || head_.status == 304)
      return std::nullopt;
    char* url = nullptr;
    curl_easy_getinfo(easy_.get(), CURLINFO_REDIRECT_URL, &url);
    return url != nullptr ? std::optional<std::string>(url) : std::nullopt;
  }

  static std::optional<RangeAnswer> judge_redirect(const std::string& from, const std::string& to) {
    const auto url = parse_url(to);
    if (!url || (url->scheme != "http" && url->scheme != "https"))
      return unusable_server("it redirects to what is not a usable URL");
    if (url->scheme == "http" && parse_url(from)->scheme == "https")
      return unusable_server("it redirects from https to http");
    return std::nullopt;
  }

  [[nodiscard]] bool may_be_private() const {
    return options_.allow_private || (hop_ == 0 ? options_.trusted : home_is_private_);
  }

  static bool host_is_private(const std::string& url) {
    const auto parsed = parse_url(url);
    return parsed && is_private_host(parsed->host.host);
  }

  [[nodiscard]] RangeAnswer private_address() const {
    return unusable_server(hop_ == 0 ? "it is at a private address" : "it redirects to a private address");
  }

  // ---- What libcurl calls; nothing may throw through it ----

  static curl_socket_t open_socket(void* client, curlsocktype, curl_sockaddr* address) noexcept {
    auto& self = *static_cast<Client*>(client);
    try {
      const std::string text = to_address(address->addr);
      const bool is_private = text.empty() || is_private_host(text);
      if (is_private && !self.may_be_private()) {
        self.met_private_ = true;
        return CURL_SOCKET_BAD;
      }
      if (is_private && self.hop_ == 0) self.home_is_private_ = true;
      return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    } catch (...) {
      self.thrown_ = std::current_exception();
      return CURL_SOCKET_BAD;
    }
  }

  static std::size_t take_header(const char* data, std::size_t, std::size_t length, void* client) noexcept {
    auto& self = *static_cast<Client*>(client);
    try {
      self.head_bytes_ += length;
      if (self.head_bytes_ > kHeadBytesMax) return 0;
      self.note_header({data, length});
      return length;
    } catch (...) {
      self.thrown_ = std::current_exception();
      return 0;
    }
  }

  static std::size_t take_body(const char* data, std::size_t, std::size_t length, void* client) noexcept {
    auto& self = *static_cast<Client*>(client);
    try {
      return self.note_body({data, length}) ? length : 0;
    } catch (...) {
      self.thrown_ = std::current_exception();
      return 0;
    }
  }

  void note_header(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n' || line.back() == ' '))
      line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {  // also after "100 Continue"
      head_ = {};
      head_complete_ = false;
      const std::size_t space = std::min(line.find(' '), line.size() - 1);
      head_.status = static_cast<long>(parse_number(line.substr(space + 1, 3)).value_or(0));
      return;
    }
    if (line.empty() && head_.status >= 200) head_complete_ = true;
    const std::size_t colon = line.find(':');
    if (colon == line.npos) return;
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    const auto is = [&](std::string_view name) {
      return std::ranges::equal(line.substr(0, colon), name, [](char a, char b) {
        return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
      });
    };
    if (is("content-range")) head_.content_range = value;
    if (is("content-encoding")) head_.content_encoding = value;
    if (is("content-length")) head_.content_length = parse_number(value);
    if (is("retry-after")) {
      constexpr std::uint64_t kLongest = 300;
      head_.retry_after = std::chrono::seconds(std::min(parse_number(value).value_or(0), kLongest));
    }
  }

  /// False ends the transfer.
  bool note_body(std::span<const char> bytes) {
    if (stop_.stop_requested()) return false;
    if (judge_now().outcome != RangeOutcome::complete || redirect_status()) {
      unwanted_ += bytes.size();
      return unwanted_ <= kUnwantedBytesMax;
    }
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), request_->length_bytes - received_));
    if (wanted > 0) (*sink_)(received_, bytes.first(wanted));
    received_ += wanted;
    too_long_ = wanted < bytes.size();
    return !too_long_;
  }

  [[nodiscard]] bool redirect_status() const { return head_.status >= 300 && head_.status < 400; }

  HttpOptions options_;
  std::stop_token stop_;
  std::unique_ptr<curl_slist, Free> headers_;
  std::unique_ptr<CURLM, Free> multi_;
  std::unique_ptr<CURL, FreeEasy> easy_;  // goes before what it uses

  bool home_is_private_ = false;  // the URLs asked for lead to a private address

  // Of the request under way:
  const RangeRequest* request_ = nullptr;
  const RangeSink* sink_ = nullptr;
  int hop_ = 0;
  Head head_;
  std::optional<RangeAnswer> judged_;
  std::uint64_t received_ = 0;
  std::uint64_t unwanted_ = 0;
  std::uint64_t head_bytes_ = 0;
  bool head_complete_ = false;
  bool too_long_ = false;
  bool met_private_ = false;
  std::exception_ptr thrown_;
};

HttpRanges::HttpRanges(const HttpOptions& options, std::stop_token stop)
    : client_(std::make_unique<Client>(options, std::move(stop))) {}

HttpRanges::~HttpRanges() = default;

RangeAnswer HttpRanges::get(const RangeRequest& request, const RangeSink& sink) {
  return client_->get(request, sink);
}

}  // namespace sluice::fetch
