#include "tests/fetch/tiny_tracker.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

namespace sluice::tests {

int listen_on_loopback(int& port) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener, 5) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw std::runtime_error("cannot listen");
  port = ntohs(address.sin_port);
  return listener;
}

TinyTracker::TinyTracker(int peer_port) : peer_port_(peer_port) {
  listener_ = listen_on_loopback(port_);
  thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
}

TinyTracker::~TinyTracker() {
  thread_.request_stop();
  thread_.join();
  ::close(listener_);
}

void TinyTracker::serve(const std::stop_token& stop) const {
  std::string body = "d8:intervali60e5:peers6:";
  body += {'\x7f', '\0', '\0', '\1', static_cast<char>(peer_port_ >> 8), static_cast<char>(peer_port_ & 255)};
  body += 'e';
  const std::string answer =
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
      body;
  while (!stop.stop_requested()) {
    pollfd wait{.fd = listener_, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 50) <= 0) continue;
    const int client = ::accept(listener_, nullptr, nullptr);
    std::string request;
    char chunk[4096];
    while (request.find("\r\n\r\n") == std::string::npos) {
      pollfd readable{.fd = client, .events = POLLIN, .revents = 0};
      if (::poll(&readable, 1, 2000) <= 0) break;
      const auto got = ::recv(client, chunk, sizeof chunk, 0);
      if (got <= 0) break;
      request.append(chunk, static_cast<std::size_t>(got));
    }
    static_cast<void>(::send(client, answer.data(), answer.size(), MSG_NOSIGNAL));
    ::close(client);
  }
}

}  // namespace sluice::tests
