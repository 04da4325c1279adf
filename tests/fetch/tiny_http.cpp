#include "tests/fetch/tiny_http.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>

#include "tests/fetch/tiny_tracker.h"

namespace sluice::tests {
namespace {

using Clock = std::chrono::steady_clock;

/// The next request's head; empty at the end of the connection.
std::string read_head(int client, std::string& buffer, const std::stop_token& stop) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  while (!stop.stop_requested()) {
    if (const auto end = buffer.find(kEnd); end != buffer.npos) {
      std::string head = buffer.substr(0, end + 2);
      buffer.erase(0, end + kEnd.size());
      return head;
    }
    pollfd readable{.fd = client, .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, 50) <= 0) continue;
    char chunk[4096];
    const auto got = ::recv(client, chunk, sizeof chunk, 0);
    if (got <= 0) return "";
    buffer.append(chunk, static_cast<std::size_t>(got));
  }
  return "";
}

std::string percent_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

HttpRequest parse_request(const std::string& head) {
  HttpRequest request;
  const std::size_t target = head.find(' ') + 1;
  request.target = head.substr(target, head.find(' ', target) - target);
  request.path = percent_decode(request.target.substr(0, request.target.find('?')));
  for (std::size_t at = head.find("\r\n") + 2; at < head.size();) {
    const std::size_t end = head.find("\r\n", at);
    const std::size_t colon = head.find(": ", at);
    std::string name = head.substr(at, colon - at);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    request.headers[name] = head.substr(colon + 2, end - colon - 2);
    at = end + 2;
  }
  return request;
}

bool send_all(int client, std::string_view data, const std::stop_token& stop) {
  while (!data.empty() && !stop.stop_requested()) {
    pollfd writable{.fd = client, .events = POLLOUT, .revents = 0};
    if (::poll(&writable, 1, 50) <= 0) continue;
    const auto sent = ::send(client, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return false;
    data.remove_prefix(static_cast<std::size_t>(sent));
  }
  return data.empty();
}

}  // namespace

std::optional<std::pair<std::uint64_t, std::uint64_t>> HttpRequest::range() const {
  const auto found = headers.find("range");
  unsigned long long first = 0;
  unsigned long long last = 0;
  if (found == headers.end() || std::sscanf(found->second.c_str(), "bytes=%llu-%llu", &first, &last) != 2)
    return std::nullopt;
  return std::pair<std::uint64_t, std::uint64_t>(first, last);
}

HttpResponse serve_content(const HttpRequest& request, const std::string& content) {
  const auto range = request.range();
  if (!range) return {.status = 200, .headers = {}, .body = content};
  const std::string total = std::to_string(content.size());
  if (range->first >= content.size()) return {.status = 416, .headers = {"Content-Range: bytes */" + total}};
  const std::uint64_t last = std::min<std::uint64_t>(range->second, content.size() - 1);
  return {.status = 206,
          .headers = {"Content-Range: bytes " + std::to_string(range->first) + "-" + std::to_string(last) +
                      "/" + total},
          .body = content.substr(range->first, last - range->first + 1)};
}

TinyHttp::TinyHttp(Handler handler) : handler_(std::move(handler)) {
  listener_ = listen_on_loopback(port_);
  thread_ = std::jthread([this](const std::stop_token& stop) { accept_clients(stop); });
}

TinyHttp::TinyHttp(Files files)
    : TinyHttp([files = std::move(files)](const HttpRequest& request) -> HttpResponse {
        const auto file = files.find(request.path.substr(1));
        if (file == files.end()) return {.status = 404, .headers = {}, .body = "no such file"};
        return serve_content(request, file->second);
      }) {}

TinyHttp::~TinyHttp() {
  thread_.request_stop();
  thread_.join();
  ::close(listener_);
}

std::vector<std::string> TinyHttp::targets() const {
  const std::lock_guard lock(mutex_);
  return targets_;
}

void TinyHttp::accept_clients(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    pollfd wait{.fd = listener_, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 50) <= 0) continue;
    const int client = ::accept(listener_, nullptr, nullptr);
    ++connections_;
    clients_.emplace_back([this, client, stop] { serve_client(client, stop); });
  }
  clients_.clear();  // joins them
}

void TinyHttp::serve_client(int client, const std::stop_token& stop) {
  std::string buffer;
  for (;;) {
    const std::string head = read_head(client, buffer, stop);
    if (head.empty() || !answer(client, parse_request(head), stop)) break;
  }
  ::close(client);
}

bool TinyHttp::answer(int client, const HttpRequest& request, const std::stop_token& stop) {
  {
    const std::lock_guard lock(mutex_);
    targets_.push_back(request.target);
  }
  const HttpResponse response = handler_(request);
  if (response.stall) return true;
  std::string head = "HTTP/1.1 " + std::to_string(response.status) + " whatever\r\n";
  for (const std::string& header : response.headers) head += header + "\r\n";
  head += "Content-Length: " + std::to_string(response.announced_bytes.value_or(response.body.size())) +
          "\r\n\r\n";
  return send_all(client, head + response.body, stop) && !response.close;
}

}  // namespace sluice::tests
