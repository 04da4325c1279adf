// Which peers are taken in after some of them have lied.

#include "fetch/swarm/peer_admission.h"

#include <doctest/doctest.h>

using namespace sluice::fetch;
using std::chrono::seconds;

namespace {

const PeerAdmission::Time kStart{};

PeerEndpoint v4(std::uint8_t last, unsigned port) {
  return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last}, static_cast<std::uint16_t>(port)};
}

PeerEndpoint v6(std::uint8_t network, std::uint8_t last, unsigned port = 6881) {
  return {{0x20, 1, 0xd, 0xb8, 0, 0, 0, network, 0, 0, 0, 0, 0, 0, 0, last},
          static_cast<std::uint16_t>(port)};
}

/// As many endpoints of one address lie as its budget permits.
void use_up(PeerAdmission& peers, Direction direction = Direction::incoming) {
  const unsigned lies =
      direction == Direction::incoming ? PeerAdmission::kFreeLiesIncoming : PeerAdmission::kFreeLiesOutgoing;
  for (unsigned i = 0; i < lies; ++i) {
    REQUIRE(peers.admits(v4(1, 1000 + i), direction, kStart));
    CHECK(peers.record_lie(v4(1, 1000 + i), direction, kStart));
  }
}

}  // namespace

TEST_CASE("a liar is refused by its address and port") {
  PeerAdmission peers;
  CHECK(peers.admits(v4(1, 1), Direction::incoming, kStart));
  CHECK(peers.record_lie(v4(1, 1), Direction::incoming, kStart));
  CHECK_FALSE(peers.record_lie(v4(1, 1), Direction::incoming, kStart));
  CHECK(peers.has_lied(v4(1, 1)));
  CHECK_FALSE(peers.admits(v4(1, 1), Direction::incoming, kStart));
  CHECK_FALSE(peers.admits(v4(1, 1), Direction::outgoing, kStart));
  CHECK(peers.admits(v4(1, 2), Direction::incoming, kStart));
}

TEST_CASE("an address from which liars keep calling gets one newcomer after each growing pause") {
  PeerAdmission peers;
  use_up(peers);
  CHECK_FALSE(peers.admits(v4(1, 2000), Direction::incoming, kStart));
  CHECK_FALSE(peers.admits(v4(1, 2001), Direction::incoming, kStart + seconds(1)));
  CHECK(peers.admits(v4(1, 2002), Direction::incoming, kStart + seconds(2)));
  CHECK_FALSE(peers.admits(v4(1, 2003), Direction::incoming, kStart + seconds(2)));
  CHECK(peers.record_lie(v4(1, 2002), Direction::incoming, kStart + seconds(2)));
  CHECK_FALSE(peers.admits(v4(1, 2004), Direction::incoming, kStart + seconds(5)));
  CHECK(peers.admits(v4(1, 2005), Direction::incoming, kStart + seconds(6)));
  CHECK(peers.admits(v4(2, 2006), Direction::incoming, kStart));
}

TEST_CASE("an attacker who never stops is let in a few times an hour") {
  PeerAdmission peers;
  unsigned admitted = 0;
  for (unsigned s = 0; s < 3600; ++s) {
    const PeerEndpoint peer = v4(1, 1 + s);
    if (!peers.admits(peer, Direction::incoming, kStart + seconds(s))) continue;
    ++admitted;
    peers.record_lie(peer, Direction::incoming, kStart + seconds(s));
  }
  // 4 at once, 8 while the pause grows to 300 s within 510 s, and one in 300 s from there.
  CHECK(admitted == 22);
}

TEST_CASE("neighbours of a liar are taken in when they are named, proven, or called by us") {
  PeerAdmission peers;
  peers.name(v4(1, 3000));
  peers.record_proven(v4(1, 3001));
  use_up(peers);
  CHECK(peers.admits(v4(1, 3000), Direction::outgoing, kStart));
  CHECK(peers.admits(v4(1, 3001), Direction::incoming, kStart));
  CHECK(peers.admits(v4(1, 3002), Direction::outgoing, kStart));
  CHECK_FALSE(peers.admits(v4(1, 3003), Direction::incoming, kStart));
  SUBCASE("until they lie themselves") {
    for (const unsigned port : {3000u, 3001u}) {
      peers.record_lie(v4(1, port), Direction::outgoing, kStart);
      CHECK_FALSE(peers.admits(v4(1, port), Direction::outgoing, kStart + seconds(10'000)));
      peers.record_proven(v4(1, port));
      CHECK_FALSE(peers.admits(v4(1, port), Direction::outgoing, kStart + seconds(10'000)));
    }
  }
}

TEST_CASE("an attacker who has himself called at many ports is stopped, too") {
  PeerAdmission peers;
  use_up(peers, Direction::outgoing);
  CHECK_FALSE(peers.admits(v4(1, 2000), Direction::outgoing, kStart));
  CHECK(peers.admits(v4(1, 2000), Direction::incoming, kStart));
}

TEST_CASE("IPv6 addresses are counted by their /64") {
  PeerAdmission peers;
  for (std::uint8_t i = 0; i < PeerAdmission::kFreeLiesIncoming; ++i)
    peers.record_lie(v6(1, i), Direction::incoming, kStart);
  CHECK_FALSE(peers.admits(v6(1, 99), Direction::incoming, kStart));
  CHECK(peers.admits(v6(2, 99), Direction::incoming, kStart));
}

TEST_CASE("an attacker with many ports and addresses cannot make the memory grow") {
  PeerAdmission peers;
  use_up(peers);
  const auto from_network = [](unsigned i) {
    PeerEndpoint peer = v6(0, 1);
    peer.address[4] = static_cast<std::uint8_t>(i >> 16);
    peer.address[5] = static_cast<std::uint8_t>(i >> 8);
    peer.address[6] = static_cast<std::uint8_t>(i);
    return peer;
  };
  constexpr unsigned kLies = 3 * PeerAdmission::kNetworksMax;
  for (unsigned i = 1; i <= kLies; ++i) peers.record_lie(from_network(i), Direction::incoming, kStart);
  // The last ones are known, the first ones forgotten; the address with most lies is still known.
  CHECK(peers.has_lied(from_network(kLies)));
  CHECK_FALSE(peers.has_lied(from_network(1)));
  CHECK_FALSE(peers.has_lied(v4(1, 1000)));
  CHECK_FALSE(peers.admits(v4(1, 1000), Direction::incoming, kStart));
}
