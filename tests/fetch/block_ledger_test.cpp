// Who is blamed for wrong blocks.

#include "fetch/swarm/block_ledger.h"

#include <doctest/doctest.h>

#include "base/hasher.h"

using namespace sluice;
using fetch::BlockLedger;

namespace {

/// A piece is one letter for each block; equal letters are equal blocks.
struct Disk {
  std::map<std::uint64_t, std::string> pieces;
  unsigned reads = 0;

  BlockLedger::ReadDigests reader() {
    return [this](std::uint64_t piece) {
      ++reads;
      std::vector<base::Sha256> digests;
      for (const char& block : pieces[piece])
        digests.push_back(base::hash<base::Sha256>(base::as_bytes(std::string_view(&block, 1))));
      return digests;
    };
  }

  /// Each block of the piece arrives from the sender of the same place.
  void write(BlockLedger& ledger, std::uint64_t piece, const std::string& blocks,
             const std::vector<BlockLedger::Sender>& senders) {
    pieces[piece] = blocks;
    for (std::size_t i = 0; i < senders.size(); ++i) ledger.record(piece, i, blocks.size(), senders[i]);
  }
};

using Senders = std::vector<BlockLedger::Sender>;

}  // namespace

TEST_CASE("the only sender of a wrong piece is a liar at once") {
  Disk disk;
  BlockLedger ledger(disk.reader());
  disk.write(ledger, 7, "xx", {5, 5});
  CHECK(ledger.fail(7) == BlockLedger::Sender{5});
  CHECK(disk.reads == 0);
  CHECK_FALSE(ledger.fail(7).has_value());
}

TEST_CASE("of several senders the right piece tells who has lied") {
  Disk disk;
  BlockLedger ledger(disk.reader());
  disk.write(ledger, 7, "abXd", {1, 2, 3, 1});
  CHECK_FALSE(ledger.fail(7).has_value());
  disk.write(ledger, 7, "abYZ", {2, 2, 4, 5});
  CHECK_FALSE(ledger.fail(7).has_value());
  disk.write(ledger, 7, "abcd", {1, 1, 1, 1});
  const auto judgement = ledger.pass(7);
  CHECK(judgement.liars == Senders{3, 4, 5});
  CHECK(judgement.honest == Senders{1, 2});
  // All of it is settled.
  CHECK(ledger.pass(7).liars.empty());
}

TEST_CASE("blocks whose sender is not known blame nobody") {
  Disk disk;
  BlockLedger ledger(disk.reader());
  SUBCASE("of an earlier run") { disk.write(ledger, 7, "Xb", {BlockLedger::kUnknown, 5}); }
  SUBCASE("of a mirror") { disk.write(ledger, 7, "Xb", {BlockLedger::kUnknown, BlockLedger::kUnknown}); }
  SUBCASE("where only the last one was recorded") {
    disk.pieces[7] = "Xb";
    ledger.record(7, 1, 2, 5);
  }
  CHECK_FALSE(ledger.fail(7).has_value());
  disk.write(ledger, 7, "ab", {6, 6});
  CHECK(ledger.pass(7).liars.empty());
}

TEST_CASE("what cannot be read back blames nobody") {
  Disk disk;
  BlockLedger ledger(disk.reader());
  disk.write(ledger, 7, "Xb", {4, 5});
  disk.pieces[7] = "";
  CHECK_FALSE(ledger.fail(7).has_value());
  disk.write(ledger, 7, "ab", {6, 6});
  CHECK(ledger.pass(7).liars.empty());
}

TEST_CASE("failed pieces do not make the memory grow without end") {
  Disk disk;
  BlockLedger ledger(disk.reader());
  constexpr std::size_t kBlocks = 1024;
  const std::string wrong(kBlocks, 'X');
  Senders senders(kBlocks, 1);
  senders.back() = 2;
  const std::uint64_t pieces = BlockLedger::kBlocksMax / kBlocks + 1;
  for (std::uint64_t piece = 0; piece < pieces; ++piece) {
    disk.write(ledger, piece, wrong, senders);
    CHECK_FALSE(ledger.fail(piece).has_value());
    disk.pieces.erase(piece);
  }
  for (const std::uint64_t piece : {std::uint64_t{0}, pieces - 1}) {
    disk.write(ledger, piece, std::string(kBlocks, 'a'), Senders(kBlocks, 3));
    CHECK(ledger.pass(piece).liars == (piece == 0 ? Senders{} : Senders{1, 2}));
  }
}
