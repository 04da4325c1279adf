#pragma once
// An HTTP tracker (BEP 3, BEP 23) on 127.0.0.1 that knows one peer and tells everybody.

#include <string>
#include <thread>

namespace sluice::tests {

class TinyTracker {
 public:
  explicit TinyTracker(int peer_port);
  ~TinyTracker();
  TinyTracker(const TinyTracker&) = delete;
  TinyTracker& operator=(const TinyTracker&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/announce"; }

 private:
  void serve(const std::stop_token& stop) const;

  int peer_port_;
  int listener_ = -1;
  int port_ = 0;
  std::jthread thread_;
};

/// A listening socket on a free port of 127.0.0.1.
int listen_on_loopback(int& port);

}  // namespace sluice::tests
