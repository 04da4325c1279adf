#include <doctest/doctest.h>

#include <algorithm>
#include <future>
#include <thread>

#include "base/hasher.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/store_support.h"

using namespace sluice;
using namespace sluice::tests;

namespace {

struct Fixture {
  explicit Fixture(bool v1_only) {
    const Files content = {
        {"a.json", noise(1, 5'000)}, {"b.bin", noise(2, 600'000)}, {"c.bin", noise(3, 70'001)}};
    write_files(dir / "model", content);
    release =
        std::make_unique<StreamedRelease>(publish_folder(dir / "model", v1_only, 131072).layout, content);
  }
  TempDir dir;
  std::unique_ptr<StreamedRelease> release;
  MemoryStorage storage;
};

bool write_block(StoreStack& stack, std::uint64_t piece, base::Bytes bytes, std::uint64_t at) {
  const auto length = std::min<std::uint64_t>(fetch::kBlockBytes, bytes.size() - at);
  return stack.store.write(
      piece, at, bytes.subspan(at, length), [](const auto& failure) { CHECK(!failure); }, [] {});
}

void write_blocks(StoreStack& stack, std::uint64_t piece, base::Bytes bytes, std::mt19937& random) {
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t at = 0; at < bytes.size(); at += fetch::kBlockBytes) offsets.push_back(at);
  std::ranges::shuffle(offsets, random);
  for (const auto at : offsets) write_block(stack, piece, bytes, at);
}

fetch::PieceDigest hash(StoreStack& stack, std::uint64_t piece) {
  std::promise<fetch::PieceDigest> digest;
  stack.store.hash(piece, [&](const fetch::PieceStore::HashResult& result) {
    CHECK(!result.failure);
    digest.set_value(result.digest);
  });
  return digest.get_future().get();
}

}  // namespace

TEST_CASE("blocks in any order, with much memory or none, give the digests of the piece in one go") {
  std::mt19937 random(1);
  for (const bool v1_only : {true, false}) {
    for (const std::uint64_t memory_bytes : {std::uint64_t{1} << 24, std::uint64_t{1}}) {
      CAPTURE(v1_only);
      CAPTURE(memory_bytes);
      Fixture fixture(v1_only);
      const StreamedRelease& release = *fixture.release;
      StoreStack stack(release, fixture.storage, memory_bytes);
      for (std::uint64_t piece = 0; piece < release.map.piece_count(); ++piece) {
        const auto bytes = release.piece(piece);
        write_blocks(stack, piece, bytes, random);
        CHECK(hash(stack, piece) == release.verifier.digest(piece, bytes));
        CHECK(hash(stack, piece) == release.verifier.digest(piece, bytes));  // now from the disk
      }
      stack.committer.close_files();
      CHECK(stack.store.unfinished_bytes() == 0);
      for (const auto& [path, content] : release.files)
        CHECK((base::as_text(fixture.storage.image().at(path)) == content));
    }
  }
}

TEST_CASE(
    "a hybrid torrent whose hashes describe different data is found out, and wrong bytes are not that") {
  enum class Change { none, v1, v2, bytes };
  for (const Change change : {Change::none, Change::v1, Change::v2, Change::bytes}) {
    CAPTURE(static_cast<int>(change));
    std::mt19937 random(5);
    Fixture fixture(false);
    StreamedRelease& release = *fixture.release;
    // A piece in the middle of b.bin, so that it has no padding.
    std::uint64_t piece = 0;
    while (release.map.slices(piece).front().length_bytes < release.map.piece_bytes(piece)) ++piece;
    const fetch::PieceSlice slice = release.map.slices(piece).front();
    auto bytes = release.piece(piece);
    if (change == Change::v1) release.layout.v1_pieces.at(piece).bytes[0] ^= std::byte{1};
    if (change == Change::v2)
      release.layout.files.at(slice.file_index)
          .piece_layer.at(slice.file_offset_bytes / release.layout.piece_bytes)
          .bytes[0] ^= std::byte{1};
    if (change == Change::bytes) bytes[0] ^= std::byte{1};
    StoreStack stack(release, fixture.storage);
    write_blocks(stack, piece, bytes, random);
    static_cast<void>(hash(stack, piece));
    const std::lock_guard lock(stack.mutex);
    const bool contradiction = change == Change::v1 || change == Change::v2;
    REQUIRE(stack.failures.size() == (contradiction ? 1 : 0));
    if (contradiction) CHECK(stack.failures[0].kind() == base::ErrorKind::malformed);
  }
}

TEST_CASE("wrong bytes in the padding of a piece do not make its torrent wrong") {
  std::mt19937 random(6);
  Fixture fixture(false);
  const StreamedRelease& release = *fixture.release;
  std::uint64_t piece = 0;
  while (release.map.slices(piece).front().length_bytes == release.map.piece_bytes(piece)) ++piece;
  auto bytes = release.piece(piece);
  bytes.back() ^= std::byte{1};
  StoreStack stack(release, fixture.storage);
  write_blocks(stack, piece, bytes, random);
  CHECK(release.verifier.verify(piece, hash(stack, piece)) == fetch::MatchResult::mismatch);
  const std::lock_guard lock(stack.mutex);
  CHECK(stack.failures.empty());
}

TEST_CASE("the blocks of a piece are hashed one by one from the disk") {
  std::mt19937 random(7);
  Fixture fixture(true);
  StoreStack stack(*fixture.release, fixture.storage);
  const auto bytes = fixture.release->piece(1);
  CHECK(stack.store.block_digests_on_disk(1).empty());
  write_blocks(stack, 1, bytes, random);
  static_cast<void>(hash(stack, 1));
  const auto digests = stack.store.block_digests_on_disk(1);
  REQUIRE(digests.size() == 8);
  CHECK(digests[3] ==
        base::hash<base::Sha256>(base::Bytes(bytes).subspan(3 * fetch::kBlockBytes, fetch::kBlockBytes)));
}

TEST_CASE("a wrong piece is not committed, and its blocks can come again") {
  std::mt19937 random(2);
  for (const bool v1_only : {true, false}) {
    Fixture fixture(v1_only);
    const StreamedRelease& release = *fixture.release;
    {
      StoreStack stack(release, fixture.storage);
      auto bytes = release.piece(1);
      bytes[20'000] ^= std::byte{1};
      write_blocks(stack, 1, bytes, random);
      CHECK(release.verifier.verify(1, hash(stack, 1)) == fetch::MatchResult::mismatch);
      std::promise<void> forgotten;
      stack.store.forget(1, [&] { forgotten.set_value(); });
      forgotten.get_future().wait();
      stack.committer.flush();
    }
    {
      StoreStack stack(release, fixture.storage);
      CHECK_FALSE(stack.state.verified(1));
      write_block(stack, 1, release.piece(1), fetch::kBlockBytes);  // only the wrong one, as in v2
      CHECK(release.verifier.verify(1, hash(stack, 1)) == fetch::MatchResult::match);
      stack.committer.flush();
    }
    const StoreStack stack(release, fixture.storage);
    CHECK(stack.state.verified(1));
  }
}

TEST_CASE("a piece of which a write failed is not committed, whatever its blocks hash to in memory") {
  for (const bool v1_only : {true, false}) {
    Fixture fixture(v1_only);
    const StreamedRelease& release = *fixture.release;
    const auto bytes = release.piece(1);
    {
      StoreStack stack(release, fixture.storage);
      for (std::uint64_t at = 0; at < bytes.size(); at += fetch::kBlockBytes) {
        fixture.storage.set_full(at == 2 * fetch::kBlockBytes);
        const auto block = base::Bytes(bytes).subspan(at, std::min(fetch::kBlockBytes, bytes.size() - at));
        stack.store.write(
            1, at, block, [](const auto&) {}, [] {});
        std::promise<void> written;
        stack.store.flush([&] { written.set_value(); });
        written.get_future().wait();
      }
      std::promise<bool> failed;
      stack.store.hash(1, [&](const auto& result) { failed.set_value(result.failure.has_value()); });
      CHECK(failed.get_future().get());
      CHECK(release.verifier.verify(1, hash(stack, 1)) == fetch::MatchResult::mismatch);  // from the disk
    }
    const StoreStack stack(release, fixture.storage);
    CHECK_FALSE(stack.state.verified(1));
  }
}

TEST_CASE("a full store says so, and tells when there is room again") {
  Fixture fixture(true);
  const StreamedRelease& release = *fixture.release;
  StoreStack stack(release, fixture.storage, 3 * fetch::kBlockBytes);
  const auto bytes = release.piece(0);
  std::promise<void> room;
  bool full = false;
  for (std::uint64_t at = bytes.size() / fetch::kBlockBytes * fetch::kBlockBytes; at > 0 && !full;) {
    at -= fetch::kBlockBytes;  // backwards: nothing can be hashed
    full = !stack.store.write(
        0, at, base::Bytes(bytes).subspan(at, fetch::kBlockBytes), [](const auto&) {},
        [&] { room.set_value(); });
  }
  REQUIRE(full);
  CHECK(room.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready);
}

TEST_CASE("what is read is what was written before") {
  Fixture fixture(false);
  const StreamedRelease& release = *fixture.release;
  StoreStack stack(release, fixture.storage);
  const auto bytes = release.piece(1);
  write_block(stack, 1, bytes, 0);
  std::vector<std::byte> out(1000);
  std::promise<bool> failed;
  stack.store.read(1, 500, out, [&](const auto& failure) { failed.set_value(failure.has_value()); });
  CHECK_FALSE(failed.get_future().get());
  CHECK(std::equal(out.begin(), out.end(), bytes.begin() + 500));
  std::promise<bool> missing;
  stack.store.read(0, 0, out, [&](const auto& failure) { missing.set_value(failure.has_value()); });
  CHECK(missing.get_future().get());
}

TEST_CASE("pieces and files of a layout: every byte of every file is in exactly one place") {
  for (const bool v1_only : {true, false}) {
    const Fixture fixture(v1_only);
    const StreamedRelease& release = *fixture.release;
    std::map<std::size_t, std::uint64_t> seen_bytes;
    for (std::uint64_t piece = 0; piece < release.map.piece_count(); ++piece) {
      for (const auto& slice : release.map.slices(piece)) {
        CHECK(slice.file_offset_bytes == seen_bytes[slice.file_index]);
        seen_bytes[slice.file_index] += slice.length_bytes;
        const auto [first, last] = release.map.pieces_of(slice.file_index);
        CHECK((first <= piece && piece < last));
      }
      CHECK(release.verifier.verify(piece, release.verifier.digest(piece, release.piece(piece))) ==
            fetch::MatchResult::match);
    }
    for (std::size_t i = 0; i < release.layout.files.size(); ++i)
      CHECK(seen_bytes[i] == (release.layout.files[i].pad ? 0 : release.layout.files[i].length_bytes));
  }
}

TEST_CASE(
    "blocks of pieces that are not finished are there for the next run, and count when the piece is whole") {
  std::mt19937 random(3);
  for (const bool v1_only : {true, false}) {
    CAPTURE(v1_only);
    Fixture fixture(v1_only);
    const StreamedRelease& release = *fixture.release;
    const std::uint64_t piece = 2;
    const auto bytes = release.piece(piece);
    const std::vector<bool> first_blocks = {true, false, true, false, false, true, false, false};
    const auto write = [&](StoreStack& stack, bool first) {
      for (std::uint64_t i = 0; i < first_blocks.size(); ++i)
        if (first_blocks[i] == first) write_block(stack, piece, bytes, i * fetch::kBlockBytes);
    };
    const auto flush = [](StoreStack& stack) {
      std::promise<void> flushed;
      stack.store.flush([&] { flushed.set_value(); });
      flushed.get_future().wait();
    };
    {
      StoreStack stack(release, fixture.storage);
      write(stack, true);
      flush(stack);
      auto partial = stack.store.take_partial();
      REQUIRE(partial.size() == 1);
      CHECK(partial[0].index == piece);
      CHECK((partial[0].blocks == first_blocks));
      stack.committer.add_partial(std::move(partial));
      CHECK(stack.store.take_partial().empty());
    }
    StoreStack stack(release, fixture.storage);
    REQUIRE(stack.state.partial().contains(piece));
    const auto& blocks = stack.state.partial().at(piece);
    CHECK((blocks == first_blocks));
    stack.store.restore({piece, blocks});
    CHECK(stack.store.unfinished_bytes() == 3 * fetch::kBlockBytes);
    write(stack, false);
    CHECK(hash(stack, piece) == release.verifier.digest(piece, bytes));
    flush(stack);
    CHECK(stack.store.unfinished_bytes() == 0);
    stack.committer.flush();
    const StoreStack again(release, fixture.storage);
    CHECK(again.state.verified(piece));
    CHECK(again.state.partial().empty());
  }
}

TEST_CASE("a piece that is there as a whole but was never hashed is committed when it is") {
  Fixture fixture(false);
  const StreamedRelease& release = *fixture.release;
  const auto bytes = release.piece(1);
  StoreStack stack(release, fixture.storage);
  stack.files.write(1, 0, bytes);
  stack.store.restore({1, std::vector<bool>(bytes.size() / fetch::kBlockBytes, true)});
  CHECK(hash(stack, 1) == release.verifier.digest(1, bytes));
  stack.committer.flush();
  const StoreStack again(release, fixture.storage);
  CHECK(again.state.verified(1));
}

TEST_CASE(
    "a piece that nobody could verify is whole but unproven for the next run, until the layers are known") {
  std::mt19937 random(5);
  Fixture fixture(false);
  format::ReleaseLayout layout = fixture.release->layout;  // as of a v2 magnet link
  layout.infohash_v1.reset();
  layout.v1_pieces.clear();
  const StreamedRelease known(layout, fixture.release->files);
  for (auto& file : layout.files) file.piece_layer.clear();
  const StreamedRelease unknown(layout, fixture.release->files);
  const std::uint64_t piece = 2;
  {
    StoreStack stack(unknown, fixture.storage);
    write_blocks(stack, piece, known.piece(piece), random);
    static_cast<void>(hash(stack, piece));
    stack.committer.flush();
  }
  {
    const StoreStack stack(unknown, fixture.storage);
    CHECK(!stack.state.verified(piece));
    CHECK((stack.state.partial().at(piece) == std::vector<bool>(8, true)));
  }
  const StoreStack stack(known, fixture.storage);
  CHECK(stack.state.verified(piece));
  CHECK(stack.state.partial().empty());
}

TEST_CASE("blocks of a piece that turned out wrong are not for the next run") {
  std::mt19937 random(4);
  Fixture fixture(false);
  const StreamedRelease& release = *fixture.release;
  auto bytes = release.piece(1);
  bytes[70'000] ^= std::byte{1};
  {
    StoreStack stack(release, fixture.storage);
    write_blocks(stack, 1, bytes, random);
    std::promise<void> flushed;
    stack.store.flush([&] { flushed.set_value(); });
    flushed.get_future().wait();
    stack.committer.add_partial(stack.store.take_partial());
    static_cast<void>(hash(stack, 1));
    std::promise<void> forgotten;
    stack.store.forget(1, [&] { forgotten.set_value(); });
    forgotten.get_future().wait();
    stack.committer.add_partial(stack.store.take_partial());
  }
  const StoreStack again(release, fixture.storage);
  CHECK(!again.state.verified(1));
  const auto& blocks = again.state.partial().at(1);
  CHECK(std::ranges::count(blocks, true) == 0);
}
