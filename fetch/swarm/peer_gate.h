#pragma once
// Who may be talked to. What strangers tell (a magnet link, a tracker, a peer, the DHT) must not make this
// process knock at private addresses: an address filter of the session blocks them all, and lets through, one
// by one, those that the user named and those that announce themselves in the local network.
//
// The filter knows addresses, not ports: who names 127.0.0.1:6881 opens all of 127.0.0.1.

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

class PeerGate final {
 public:
  PeerGate(const WorkerJob& job, lt::session_handle session, WorkerPipe& pipe);

  /// From any thread.
  void trust(const std::vector<lt::address>& addresses);

  /// Lets in who announced itself by local discovery; notes who was blocked.
  void handle(const lt::alert& alert);
  /// Warns of those who were blocked, each address once.
  void tick();

 private:
  using Clock = std::chrono::steady_clock;

  void note_blocked(const lt::address& address, bool incoming);
  void warn(const lt::address& address, bool incoming);

  bool allow_private_;
  bool local_discovery_;
  lt::session_handle session_;
  WorkerPipe& pipe_;
  std::mutex mutex_;  // guards trusted_
  std::set<lt::address> trusted_;
  struct Blocked {
    Clock::time_point since;
    bool incoming;
  };
  std::map<lt::address, Blocked> blocked_;  // not told yet
  std::set<lt::address> told_;
};

}  // namespace sluice::fetch
