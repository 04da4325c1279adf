#pragma once
// Decides which peers are taken in, from what has been proven of them. docs/decisions/0021 explains the
// policy.
//
// A lie is a proven one: metadata without the info-hash, or a block that differs from the right one. It is
// held against the endpoint (address and port), because several peers can share an address. An attacker that
// comes back from other ports is stopped by a budget for each network: an IPv4 address, or the /64 of an IPv6
// address. Connections that come in and connections that we make have separate budgets, so that a liar who
// calls us does not shut out a neighbour whom a tracker knows.

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>

#include "base/stopwatch.h"

namespace sluice::fetch {

struct PeerEndpoint {
  std::array<std::uint8_t, 16> address{};  ///< IPv6, or IPv4 mapped to IPv6 (RFC 4291, section 2.5.5.2)
  std::uint16_t port = 0;

  friend auto operator<=>(const PeerEndpoint&, const PeerEndpoint&) = default;
};

enum class Direction : std::uint8_t { incoming, outgoing };

/// Holds bounded memory whatever peers do. Not thread-safe.
class PeerAdmission final {
 public:
  using Time = base::Clock::time_point;

  static constexpr unsigned kFreeLiesIncoming = 4;  ///< of a network, before its newcomers have to wait
  static constexpr unsigned kFreeLiesOutgoing = 8;
  static constexpr std::chrono::seconds kPauseMin{2};  ///< doubles with each further lie
  static constexpr std::chrono::seconds kPauseMax{300};
  static constexpr std::size_t kEndpointsMax = 4096;  ///< remembered of each kind; the oldest are forgotten
  static constexpr std::size_t kNetworksMax = 4096;

  /// An endpoint that the user has named is taken in until it lies itself.
  void name(const PeerEndpoint& peer) { named_.insert(peer); }
  [[nodiscard]] bool is_named(const PeerEndpoint& peer) const { return named_.contains(peer); }

  /// Decides on a new connection. Each call counts: while a network has to wait, one newcomer is taken in
  /// after each pause.
  [[nodiscard]] bool admits(const PeerEndpoint& peer, Direction direction, Time now);
  /// Returns whether this is the endpoint's first lie.
  bool record_lie(const PeerEndpoint& peer, Direction direction, Time now);
  /// The endpoint has sent something that has proven right, so its network's budget no longer concerns it.
  void record_proven(const PeerEndpoint& peer);
  [[nodiscard]] bool has_lied(const PeerEndpoint& peer) const { return liars_.contains(peer); }

 private:
  class Endpoints {
   public:
    [[nodiscard]] bool contains(const PeerEndpoint& peer) const { return set_.contains(peer); }
    bool insert(const PeerEndpoint& peer);
    void erase(const PeerEndpoint& peer);

   private:
    std::set<PeerEndpoint> set_;
    std::deque<PeerEndpoint> order_;  // the oldest first
  };
  using Network = std::array<std::uint8_t, 16>;  // an address whose bits behind the prefix are zero
  struct Budget {
    unsigned lies = 0;
    Time next;  // when the next newcomer is taken in
  };
  struct Budgets {
    Budget incoming;
    Budget outgoing;
  };

  static Network network_of(const PeerEndpoint& peer);
  Budgets& budgets_of(const PeerEndpoint& peer);

  Endpoints named_;
  Endpoints proven_;
  Endpoints liars_;
  std::map<Network, Budgets> networks_;  // those that have lied
};

}  // namespace sluice::fetch
