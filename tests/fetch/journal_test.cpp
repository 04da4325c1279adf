#include <doctest/doctest.h>

#include "fetch/disk/journal.h"
#include "tests/fetch/memory_storage.h"

using namespace sluice;
using namespace sluice::tests;
using fetch::JournalRecord;

namespace {

format::ReleaseLayout make_layout(std::uint8_t seed) {
  format::ReleaseLayout layout;
  layout.name = "model";
  layout.piece_bytes = 65536;
  layout.infohash_v1.emplace();
  layout.infohash_v1->bytes[0] = std::byte{seed};
  layout.files.push_back(
      {.path = "a.bin", .length_bytes = 1'000'000, .root = {}, .piece_layer = {}, .leaves = {}});
  return layout;
}

std::vector<JournalRecord> make_records() {
  JournalRecord piece{.kind = JournalRecord::Kind::piece, .index = 3, .digest = {}, .stamp = {}};
  piece.digest.sha1.emplace();
  piece.digest.sha1->bytes.fill(std::byte{0x11});
  JournalRecord hybrid{
      .kind = JournalRecord::Kind::piece, .index = 0xffffffff, .digest = piece.digest, .stamp = {}};
  hybrid.digest.node.emplace();
  hybrid.digest.node->bytes.fill(std::byte{0x22});
  return {{.kind = JournalRecord::Kind::file_opened, .index = 0, .digest = {}, .stamp = {}},
          piece,
          hybrid,
          {.kind = JournalRecord::Kind::piece_lost, .index = 3, .digest = {}, .stamp = {}},
          {.kind = JournalRecord::Kind::piece_partial,
           .index = 2,
           .digest = {},
           .stamp = {},
           .blocks = {.first = 256, .present = {0x8000'0000'0000'0005}}},
          {.kind = JournalRecord::Kind::file_closed,
           .index = 0,
           .digest = {},
           .stamp = {.size_bytes = 1'000'000, .modified_ns = 1'700'000'000'123'456'789}}};
}

std::vector<JournalRecord> read(MemoryStorage& storage, const format::ReleaseLayout& layout) {
  std::vector<JournalRecord> records;
  const fetch::Journal journal(storage, "j", layout, [&](const auto& record) { records.push_back(record); });
  return records;
}

/// The bytes of a journal with make_records() in it.
std::vector<std::byte> make_journal() {
  MemoryStorage storage;
  fetch::Journal(storage, "j", make_layout(1), [](const auto&) {}).append(make_records());
  return storage.image().at("j");
}

std::size_t count_records(base::Bytes content, const format::ReleaseLayout& layout) {
  std::size_t count = 0;
  static_cast<void>(fetch::parse_journal(content, layout, [&](const auto&) { ++count; }));
  return count;
}

}  // namespace

TEST_CASE("a journal gives back what was written, and goes on from there") {
  MemoryStorage storage(MemoryStorage::Image{{"j", make_journal()}});
  const auto layout = make_layout(1);
  CHECK(read(storage, layout) == make_records());
  fetch::Journal(storage, "j", layout, [](const auto&) {}).append(make_records());
  CHECK(read(storage, layout).size() == 2 * make_records().size());
}

TEST_CASE("a journal of another torrent is started anew") {
  MemoryStorage storage(MemoryStorage::Image{{"j", make_journal()}});
  CHECK(read(storage, make_layout(2)).empty());
  CHECK(read(storage, make_layout(1)).empty());
}

TEST_CASE("a journal cut at any byte keeps its whole records, and can be written again") {
  const auto content = make_journal();
  const auto layout = make_layout(1);
  constexpr std::size_t kHeaderBytes = 96;
  constexpr std::size_t kRecordBytes = 80;
  for (std::size_t length = 0; length <= content.size(); ++length) {
    MemoryStorage storage(MemoryStorage::Image{
        {"j", {content.begin(), content.begin() + static_cast<std::ptrdiff_t>(length)}}});
    const std::size_t whole = length < kHeaderBytes ? 0 : (length - kHeaderBytes) / kRecordBytes;
    REQUIRE(read(storage, layout).size() == whole);
    fetch::Journal(storage, "j", layout, [](const auto&) {}).append(make_records());
    REQUIRE(read(storage, layout).size() == whole + make_records().size());
  }
}

TEST_CASE("a journal with any bit changed proves no more than before") {
  const auto content = make_journal();
  const auto layout = make_layout(1);
  for (std::size_t bit = 0; bit < 8 * content.size(); ++bit) {
    auto changed = content;
    changed[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    const auto left = count_records(changed, layout);
    REQUIRE(left == (bit / 8 < 96 ? 0 : make_records().size() - 1));
  }
}
