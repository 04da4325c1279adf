#pragma once
// The faults of libtorrent that fetch works around, by the versions that have them. A constant turns false
// when the build uses a version that has the fix, and the code that it guards is then not compiled or not
// chosen. docs/fetch.md lists the remaining faults, which no release has fixed so far.

#include <libtorrent/version.hpp>

namespace sluice::fetch {

/// uTP can corrupt payload on close (fixed in 2.0.11) and use freed memory (fixed in 2.0.14).
constexpr bool kUtpUnsafe = LIBTORRENT_VERSION_NUM < 20014;

/// The hash tree of each v2 file is held in memory as a whole. 2.0 lets load_torrent() hide the v2 half of a
/// hybrid torrent through a reference that is const only in type; in 2.1 torrent_info is immutable.
/// fetch/swarm/liar_finder.cpp sets torrent_peer::trust_points, which counts to 8 in four signed bits and
/// overflows to -8. Upstream has removed the points (libtorrent pull request #8845), and 2.1 makes the class
/// internal.
static_assert(LIBTORRENT_VERSION_NUM < 20100,
              "fetch/swarm/load_torrent.cpp and liar_finder.cpp need libtorrent 2.0");

}  // namespace sluice::fetch
