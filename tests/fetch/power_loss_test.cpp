// A power loss at any instant loses any part of the unsynced writes. Nothing that the journal proves may be
// wrong, and it must prove every piece that was reported as durable.

#include <doctest/doctest.h>

#include <algorithm>
#include <future>
#include <span>

#include "tests/fetch/fetch_support.h"
#include "tests/fetch/store_support.h"

using namespace sluice;
using namespace sluice::tests;

namespace {

/// Puts all pieces through the store, some at a time, their blocks in any order.
void transfer(const StreamedRelease& release, MemoryStorage& storage, std::mt19937& random) {
  StoreStack stack(release, storage);
  std::vector<std::size_t> all(release.layout.files.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  stack.committer.open_files(all);
  constexpr std::uint64_t kTogether = 4;
  for (std::uint64_t first = 0; first < release.map.piece_count(); first += kTogether) {
    const auto last = std::min(first + kTogether, release.map.piece_count());
    std::vector<std::pair<std::uint64_t, std::uint64_t>> blocks;  // piece, offset
    for (auto piece = first; piece < last; ++piece)
      for (std::uint64_t at = 0; at < release.map.piece_bytes(piece); at += fetch::kBlockBytes)
        blocks.emplace_back(piece, at);
    std::ranges::shuffle(blocks, random);
    const auto write = [&](const auto& some) {
      for (const auto& [piece, at] : some) {
        const auto bytes = release.piece(piece);
        const auto length = std::min<std::uint64_t>(fetch::kBlockBytes, bytes.size() - at);
        stack.store.write(
            piece, at, base::Bytes(bytes).subspan(at, length), [](const auto&) {}, [] {});
      }
    };
    const std::size_t half = blocks.size() / 2;
    write(std::span(blocks).first(half));
    // Half of the blocks are on the disk before their pieces are complete, however busy the machine is.
    if (random() % 2 == 0) {
      std::promise<void> written;
      stack.store.flush([&written] { written.set_value(); });
      written.get_future().wait();
      stack.committer.add_partial(stack.store.take_partial());
      if (random() % 2 == 0) stack.committer.flush();
    }
    write(std::span(blocks).subspan(half));
    if (random() % 2 == 0) stack.committer.add_partial(stack.store.take_partial());
    std::vector<std::promise<void>> hashed(last - first);
    for (auto piece = first; piece < last; ++piece)
      stack.store.hash(piece, [&hashed, at = piece - first](const auto&) { hashed[at].set_value(); });
    for (auto& promise : hashed) promise.get_future().wait();
    if (random() % 2 == 0) stack.committer.flush();
  }
  stack.committer.close_files();
}

/// Those that the journal says to be there are there; returns how many.
std::uint64_t check_blocks(const StreamedRelease& release, StoreStack& stack, std::uint64_t piece,
                           const std::vector<bool>& blocks) {
  const auto expected = release.piece(piece);
  std::vector<std::byte> found(expected.size());
  static_cast<void>(stack.files.read(piece, 0, found));
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (!blocks[i]) continue;
    ++count;
    const auto at = i * fetch::kBlockBytes;
    const auto length = std::min<std::uint64_t>(fetch::kBlockBytes, expected.size() - at);
    REQUIRE(std::ranges::equal(base::Bytes(found).subspan(at, length),
                               base::Bytes(expected).subspan(at, length)));
  }
  return count;
}

}  // namespace

TEST_CASE("after 500 power losses nothing that the journal proves is wrong") {
  std::mt19937 random(7);
  std::uint64_t verified = 0;
  std::uint64_t partial = 0;
  for (const bool v1_only : {true, false}) {
    CAPTURE(v1_only);
    const TempDir dir;
    const Files content = {
        {"a.json", noise(1, 5'000)}, {"b.bin", noise(2, 900'000)}, {"c.bin", noise(3, 70'001)}};
    write_files(dir / "model", content);
    const StreamedRelease release(publish_folder(dir / "model", v1_only, 65536).layout, content);
    for (int transfers = 0; transfers < 10; ++transfers) {
      MemoryStorage storage;
      transfer(release, storage, random);
      for (int losses = 0; losses < 25; ++losses) {
        const auto steps = random() % (storage.step_count() + 1);
        MemoryStorage found(storage.after_power_loss(steps, random));
        StoreStack stack(release, found);
        for (std::uint64_t piece = 0; piece < release.map.piece_count(); ++piece) {
          if (!stack.state.verified(piece)) continue;
          ++verified;
          const auto digest = stack.store.digest_on_disk(piece);
          REQUIRE(digest);
          REQUIRE(release.verifier.verify(piece, *digest) == fetch::MatchResult::match);
        }
        for (const auto& [piece, blocks] : stack.state.partial())
          partial += check_blocks(release, stack, piece, blocks);
      }
      MemoryStorage complete(storage.image());
      const StoreStack stack(release, complete);
      CHECK(std::ranges::count(stack.state.verified(), false) == 0);
    }
  }
  CHECK(verified > 500);  // or the test has seen nothing
  CHECK(partial > 500);
}

TEST_CASE("a disk that forgets what was synced is found out: the test above can fail") {
  std::mt19937 random(8);
  const TempDir dir;
  const Files content = {{"b.bin", noise(2, 900'000)}};
  write_files(dir / "model", content);
  const StreamedRelease release(publish_folder(dir / "model", false, 65536).layout, content);
  MemoryStorage storage;
  transfer(release, storage, random);
  auto image = storage.image();
  image.at("b.bin")[100] ^= std::byte{1};
  MemoryStorage found(image);
  StoreStack stack(release, found);
  REQUIRE(stack.state.verified(0));
  CHECK(release.verifier.verify(0, stack.store.digest_on_disk(0).value()) == fetch::MatchResult::mismatch);
}
