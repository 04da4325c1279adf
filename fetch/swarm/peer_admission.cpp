#include "fetch/swarm/peer_admission.h"

#include <algorithm>

namespace sluice::fetch {
namespace {

constexpr std::size_t kPrefixBytes = 8;  // a /64, the smallest network that a subscriber gets

bool is_ipv4(const std::array<std::uint8_t, 16>& address) {
  static constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::equal(kMapped.begin(), kMapped.end(), address.begin());
}

unsigned free_lies(Direction direction) {
  return direction == Direction::incoming ? PeerAdmission::kFreeLiesIncoming
                                          : PeerAdmission::kFreeLiesOutgoing;
}

/// The pause between two newcomers of a network that has used up its budget.
std::chrono::seconds pause_after(unsigned lies, unsigned free) {
  constexpr unsigned kDoublingsMax = 16;  // far beyond kPauseMax, and no overflow
  const auto pause = PeerAdmission::kPauseMin * (1 << std::min(lies - free, kDoublingsMax));
  return std::min<std::chrono::seconds>(pause, PeerAdmission::kPauseMax);
}

}  // namespace

bool PeerAdmission::Endpoints::insert(const PeerEndpoint& peer) {
  if (!set_.insert(peer).second) return false;
  order_.push_back(peer);
  if (order_.size() > kEndpointsMax) {
    set_.erase(order_.front());
    order_.pop_front();
  }
  return true;
}

void PeerAdmission::Endpoints::erase(const PeerEndpoint& peer) {
  if (set_.erase(peer) > 0) std::erase(order_, peer);
}

PeerAdmission::Network PeerAdmission::network_of(const PeerEndpoint& peer) {
  Network network = peer.address;
  if (!is_ipv4(network)) std::fill(network.begin() + kPrefixBytes, network.end(), std::uint8_t{0});
  return network;
}

PeerAdmission::Budgets& PeerAdmission::budgets_of(const PeerEndpoint& peer) {
  const Network network = network_of(peer);
  if (networks_.size() >= kNetworksMax && !networks_.contains(network)) {
    // The network with the fewest lies has the least to lose by being forgotten.
    const auto lies = [](const auto& entry) {
      return entry.second.incoming.lies + entry.second.outgoing.lies;
    };
    networks_.erase(std::ranges::min_element(networks_, {}, lies));
  }
  return networks_[network];
}

bool PeerAdmission::admits(const PeerEndpoint& peer, Direction direction, Time now) {
  if (liars_.contains(peer)) return false;
  if (named_.contains(peer) || proven_.contains(peer)) return true;
  const auto found = networks_.find(network_of(peer));
  if (found == networks_.end()) return true;
  Budget& budget = direction == Direction::incoming ? found->second.incoming : found->second.outgoing;
  const unsigned free = free_lies(direction);
  if (budget.lies < free) return true;
  if (now < budget.next) return false;
  budget.next = now + pause_after(budget.lies, free);
  return true;
}

bool PeerAdmission::record_lie(const PeerEndpoint& peer, Direction direction, Time now) {
  proven_.erase(peer);
  if (!liars_.insert(peer)) return false;
  Budgets& budgets = budgets_of(peer);
  Budget& budget = direction == Direction::incoming ? budgets.incoming : budgets.outgoing;
  ++budget.lies;
  const unsigned free = free_lies(direction);
  if (budget.lies >= free) budget.next = std::max(budget.next, now + pause_after(budget.lies, free));
  return true;
}

void PeerAdmission::record_proven(const PeerEndpoint& peer) {
  if (!liars_.contains(peer)) proven_.insert(peer);
}

}  // namespace sluice::fetch
