#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <libtorrent/torrent_info.hpp>
#include <memory>
#include <vector>

#include "base/error.h"
#include "fetch/job/memory_budget.h"
#include "fetch/job/memory_limit.h"
#include "fetch/swarm/load_torrent.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"

using namespace sluice;
using namespace sluice::tests;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

/// v1; `pieces` of 1 MiB in one file.
format::ReleaseLayout layout_of(std::size_t pieces) {
  format::ReleaseLayout layout;
  layout.name = "release";
  layout.piece_bytes = kMiB;
  layout.v1_pieces.resize(pieces);
  layout.infohash_v1.emplace();
  layout.files.resize(1);
  layout.files[0].path = "weights";
  layout.files[0].length_bytes = pieces * kMiB;
  return layout;
}

}  // namespace

TEST_CASE("shares of memory never come to more than there is, and shrink where metadata are large") {
  for (std::uint64_t memory_bytes = fetch::kMemoryBytesMin; memory_bytes <= 8192 * kMiB; memory_bytes *= 2) {
    CAPTURE(memory_bytes);
    const auto shares = fetch::share_memory(memory_bytes, layout_of(1000));
    const std::uint64_t peers_bytes = shares.peers_max * std::uint64_t{64 << 10};
    // A piece from a mirror is held twice while it is passed on.
    CHECK(shares.store_bytes + 2 * shares.mirror_bytes + shares.tree_bytes + peers_bytes <
          fetch::worker_memory_bytes(memory_bytes));
    CHECK(shares.peers_max >= 20);
  }
  const auto small = fetch::share_memory(512 * kMiB, layout_of(1000));
  const auto large = fetch::share_memory(512 * kMiB, layout_of(4'000'000));
  CHECK(large.store_bytes < small.store_bytes);
  CHECK(large.mirror_bytes < small.mirror_bytes);
  CHECK(large.peers_max < small.peers_max);
}

TEST_CASE("a release that does not fit is refused, and fits what is asked for") {
  CHECK_THROWS_WITH_AS(static_cast<void>(fetch::share_memory(256 * kMiB, layout_of(4'000'000))),
                       "release: its metadata take 275 MiB of memory, so that 331 MiB are needed in all "
                       "(--memory), not 256 MiB",
                       base::Error);
  CHECK_NOTHROW(static_cast<void>(fetch::share_memory(332 * kMiB, layout_of(4'000'000))));

  auto v2 = layout_of(70'000);  // 70,000 x 64 blocks, filled up to 2^23, twice 32 bytes each
  v2.v1_pieces.clear();
  v2.infohash_v1.reset();
  v2.infohash_v2.emplace();
  v2.files[0].root.emplace();
  CHECK(fetch::tree_bytes(v2) == 512 * kMiB);
  CHECK_THROWS_AS(static_cast<void>(fetch::share_memory(512 * kMiB, v2)), base::Error);
  CHECK_NOTHROW(static_cast<void>(fetch::share_memory(600 * kMiB, v2)));
}

TEST_CASE("a hybrid torrent whose trees have no room is a v1 torrent to libtorrent") {
  const TempDir dir;
  write_files(dir / "model", {{"weights", noise(1, 600'000)}, {"more", noise(2, 100'000)}});
  for (const std::uint64_t bytes_max : {std::uint64_t{0}, kMiB}) {
    auto torrent = fetch::parse_torrent_file(make_lt_torrent(dir / "model", LtVersion::hybrid), "x");
    const auto infohash_v1 = torrent.layout.infohash_v1;
    const auto infohash_v2 = torrent.layout.infohash_v2;
    const auto params = fetch::load_torrent(torrent, bytes_max);
    CHECK(params.ti->v2() == (bytes_max > 0));
    CHECK(params.ti->info_hashes() ==
          fetch::to_info_hashes(infohash_v1, bytes_max > 0 ? infohash_v2 : std::nullopt));
    CHECK(params.info_hashes == params.ti->info_hashes());
  }
}

TEST_CASE("a process beyond its ceiling ends as it was told to") {
  std::ifstream file("/proc/self/status");
  const auto now = fetch::parse_data_bytes(std::string{std::istreambuf_iterator<char>(file), {}});
  REQUIRE(now);
  if (*now > (std::uint64_t{1} << 40)) {
    MESSAGE("SKIPPED: a sanitizer's memory cannot be limited");
    return;
  }
  const pid_t child = ::fork();
  if (child == 0) {
    fetch::limit_memory(16 * kMiB, [] { std::_Exit(42); });
    std::vector<std::unique_ptr<char[]>> blocks;
    for (int i = 0; i < 64; ++i) blocks.push_back(std::make_unique<char[]>(kMiB));
    std::_Exit(blocks.size() == 64 ? 1 : 2);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 42);
}
