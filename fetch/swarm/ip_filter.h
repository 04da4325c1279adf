#pragma once
// Decides which private addresses the session may talk to. What strangers say (a magnet link, a tracker, a
// peer, the DHT) must not make this process connect to private addresses. The session's address filter blocks
// all of them, and this class allows single ones: those that the user named and those that announce
// themselves in the local network.
//
// The filter knows addresses and not ports: a user who names 127.0.0.1:6881 allows all of 127.0.0.1.

#include <chrono>
#include <libtorrent/address.hpp>
#include <libtorrent/alert.hpp>
#include <libtorrent/session_handle.hpp>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "fetch/job/worker_pipe.h"

namespace sluice::fetch {

class IpFilter final {
 public:
  IpFilter(const WorkerJob& job, lt::session_handle session, WorkerPipe& pipe);

  /// Allows these addresses. May be called from any thread.
  void allow(const std::vector<lt::address>& addresses);

  /// Allows peers that local discovery has found, and records blocked ones. Needs every alert of the session.
  void handle(const lt::alert& alert);
  /// Warns of blocked addresses, once for each. Call periodically.
  void tick();

 private:
  using Clock = std::chrono::steady_clock;

  void record_blocked(const lt::address& address, bool incoming);
  void warn(const lt::address& address, bool incoming);

  bool allow_private_;
  bool local_discovery_;
  lt::session_handle session_;
  WorkerPipe& pipe_;
  std::mutex mutex_;  // guards allowed_
  std::set<lt::address> allowed_;
  struct Blocked {
    Clock::time_point since;
    bool incoming;
  };
  std::map<lt::address, Blocked> blocked_;  // not reported yet
  std::set<lt::address> reported_;
};

}  // namespace sluice::fetch
