#pragma once
// An HTTP/1.1 server on 127.0.0.1 that answers as a test tells it to, also wrongly.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/fetch/fetch_support.h"

namespace sluice::tests {

struct HttpRequest {
  std::string target;                          ///< as sent, percent-encoded
  std::string path;                            ///< decoded
  std::map<std::string, std::string> headers;  ///< names in lower case
  /// First and last byte that are asked for.
  [[nodiscard]] std::optional<std::pair<std::uint64_t, std::uint64_t>> range() const;
};

struct HttpResponse {
  int status = 200;
  std::vector<std::string> headers;  ///< "Name: value"; a length is added
  std::string body = {};
  std::optional<std::uint64_t> announced_bytes = {};  ///< Content-Length that is not the body's
  bool close = false;                                 ///< ends the connection after the body
  bool stall = false;                                 ///< sends nothing of it and keeps the connection
};

/// The response of an honest server that has `content`.
HttpResponse serve_content(const HttpRequest& request, const std::string& content);

class TinyHttp {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  explicit TinyHttp(Handler handler);
  /// An honest server of files: path without the leading slash -> content.
  explicit TinyHttp(Files files);
  ~TinyHttp();
  TinyHttp(const TinyHttp&) = delete;
  TinyHttp& operator=(const TinyHttp&) = delete;

  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] int connections() const { return connections_; }
  /// Targets of the requests so far.
  [[nodiscard]] std::vector<std::string> targets() const;

 private:
  void accept_clients(const std::stop_token& stop);
  void serve_client(int client, const std::stop_token& stop);
  [[nodiscard]] bool answer(int client, const HttpRequest& request, const std::stop_token& stop);

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> connections_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::string> targets_;
  std::vector<std::jthread> clients_;  // of the accepting thread
  std::jthread thread_;
};

}  // namespace sluice::tests
