// Reading and writing of the journal file, whose format docs/fetch.md has as a table. A journal is read once,
// when a fetch starts, and then appended to by the committer's thread.
//
// A record says what the bytes on the disk hash to, and not that they are right. The reader compares with the
// torrent, so the record of a wrong piece is not believed (docs/decisions/0005).
//
// Invariants: a record is written only after the data it describes is durable, each append is itself synced,
// and a reader never trusts a record whose checksum does not match, so that a torn write at the end of the
// file loses only that record.

#include "fetch/disk/journal.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/hasher.h"
#include "base/invariant.h"

namespace sluice::fetch {
namespace {

// Header: magic 8, file count 8, piece bytes 8, payload bytes 8, v1 info-hash 20, v2 info-hash 32 (zeros when
// the torrent has none), zeros 4, checksum 8.
constexpr std::string_view kMagic = "SLUICEJ1";
constexpr std::size_t kHeaderBytes = 96;
// Record: kind 1, parts 1 (bit 0: SHA-1, bit 1: node), zeros 2, index 4; then for a piece SHA-1 20, zeros 12
// and node 32; for a file size 8 and time 8; for a partial piece the first block 4 and, in place of the node,
// one bit per block; at the end checksum 8.
constexpr std::size_t kRecordBytes = 80;
constexpr std::size_t kCheckBytes = 8;
constexpr std::size_t kSha1At = 8;
constexpr std::size_t kNodeAt = 40;
constexpr std::uint8_t kKindMax = 5;
constexpr std::uint8_t kHasSha1 = 1;
constexpr std::uint8_t kHasNode = 2;
constexpr std::size_t kReadBytes = kRecordBytes
                                   << 13;  // 640 KiB: a journal of millions of records is read in parts

using Check = std::array<std::byte, kCheckBytes>;

/// The salt is the header's checksum, so that a record of one torrent's journal is invalid in another's.
Check make_check(base::Bytes salt, base::Bytes bytes) {
  base::Hasher<base::Sha256> hasher;
  hasher.update(salt);
  hasher.update(bytes);
  const base::Sha256 digest = hasher.final();
  Check check;
  std::copy_n(digest.bytes.begin(), kCheckBytes, check.begin());
  return check;
}

}  // namespace

std::vector<std::byte> journal_header(const format::ReleaseLayout& layout) {
  std::vector<std::byte> header(kHeaderBytes);
  const base::MutableBytes out(header);
  std::ranges::copy(base::as_bytes(kMagic), out.begin());
  base::store_le<std::uint64_t>(out, 8, layout.files.size());
  base::store_le<std::uint64_t>(out, 16, layout.piece_bytes);
  base::store_le<std::uint64_t>(out, 24, layout.payload_bytes());
  if (layout.infohash_v1) std::ranges::copy(layout.infohash_v1->bytes, out.begin() + 32);
  if (layout.infohash_v2) std::ranges::copy(layout.infohash_v2->bytes, out.begin() + 52);
  const auto body = out.first(kHeaderBytes - kCheckBytes);
  std::ranges::copy(make_check({}, body), out.begin() + static_cast<std::ptrdiff_t>(body.size()));
  return header;
}

namespace {

base::Bytes salt_of(base::Bytes header) { return header.last(kCheckBytes); }

// Every record has the same length, so that a damaged one does not hide those behind it.
void store_record(const JournalRecord& record, base::Bytes salt, base::MutableBytes out) {
  std::ranges::fill(out, std::byte{0});
  out[0] = static_cast<std::byte>(record.kind);
  base::store_le<std::uint32_t>(out, 4, record.index);
  std::uint8_t parts = 0;
  if (record.kind == JournalRecord::Kind::file_closed) {
    base::store_le<std::uint64_t>(out, 8, record.stamp.size_bytes);
    base::store_le<std::uint64_t>(out, 16, static_cast<std::uint64_t>(record.stamp.modified_ns));
  }
  if (record.kind == JournalRecord::Kind::piece_partial) {
    base::store_le<std::uint32_t>(out, 8, record.blocks.first);
    for (std::size_t i = 0; i < PartialBlocks::kMax; ++i)
      if (record.blocks.present[i]) out[kNodeAt + i / 8] |= static_cast<std::byte>(1U << i % 8);
  }
  if (record.digest.sha1) {
    parts |= kHasSha1;
    std::ranges::copy(record.digest.sha1->bytes, out.subspan(kSha1At).begin());
  }
  if (record.digest.node) {
    parts |= kHasNode;
    std::ranges::copy(record.digest.node->bytes, out.subspan(kNodeAt).begin());
  }
  out[1] = static_cast<std::byte>(parts);
  const auto body = out.first(kRecordBytes - kCheckBytes);
  std::ranges::copy(make_check(salt, body), out.subspan(body.size()).begin());
}

std::optional<JournalRecord> load_record(base::Bytes in, base::Bytes salt) {
  const auto body = in.first(kRecordBytes - kCheckBytes);
  if (!std::ranges::equal(make_check(salt, body), in.subspan(body.size()))) return std::nullopt;
  JournalRecord record;
  const auto kind = static_cast<std::uint8_t>(in[0]);
  if (kind < 1 || kind > kKindMax) return std::nullopt;
  record.kind = static_cast<JournalRecord::Kind>(kind);
  record.index = base::load_le<std::uint32_t>(in, 4);
  if (record.kind == JournalRecord::Kind::file_closed) {
    record.stamp.size_bytes = base::load_le<std::uint64_t>(in, 8);
    record.stamp.modified_ns = static_cast<std::int64_t>(base::load_le<std::uint64_t>(in, 16));
  }
  if (record.kind == JournalRecord::Kind::piece_partial) {
    record.blocks.first = base::load_le<std::uint32_t>(in, 8);
    for (std::size_t i = 0; i < PartialBlocks::kMax; ++i)
      record.blocks.present[i] = (in[kNodeAt + i / 8] >> i % 8 & std::byte{1}) != std::byte{0};
  }
  const auto parts = static_cast<std::uint8_t>(in[1]);
  if ((parts & kHasSha1) != 0) {
    record.digest.sha1.emplace();
    std::ranges::copy(in.subspan(kSha1At, base::Sha1::kBytes), record.digest.sha1->bytes.begin());
  }
  if ((parts & kHasNode) != 0) {
    record.digest.node.emplace();
    std::ranges::copy(in.subspan(kNodeAt, base::Sha256::kBytes), record.digest.node->bytes.begin());
  }
  return record;
}

// Damaged records are skipped and not an error. Only a crash in the middle of an append makes one, and the
// pieces that it described are then fetched or hashed again.
void visit_records(base::Bytes records, base::Bytes salt, const JournalVisitor& visit) {
  for (; records.size() >= kRecordBytes; records = records.subspan(kRecordBytes))
    if (const auto record = load_record(records.first(kRecordBytes), salt)) visit(*record);
}

}  // namespace

bool parse_journal(base::Bytes content, const format::ReleaseLayout& layout, const JournalVisitor& visit) {
  const std::vector<std::byte> header = journal_header(layout);
  if (content.size() < kHeaderBytes || !std::ranges::equal(content.first(kHeaderBytes), header)) return false;
  visit_records(content.subspan(kHeaderBytes), salt_of(header), visit);
  return true;
}

Journal::Journal(Storage& storage, const std::filesystem::path& path, const format::ReleaseLayout& layout,
                 const JournalVisitor& visit)
    : file_(storage.open_or_create(path)), header_(journal_header(layout)) {
  std::vector<std::byte> found(kHeaderBytes);
  // The header depends on the torrent, so another torrent's journal is replaced as a damaged one is.
  if (file_->read_at(0, found) != kHeaderBytes || found != header_) {
    start();
    return;
  }
  std::vector<std::byte> buffer(kReadBytes);
  end_bytes_ = kHeaderBytes;
  while (true) {
    // Whole records only: a torn record at the end is overwritten by the next append.
    const std::size_t got = file_->read_at(end_bytes_, buffer) / kRecordBytes * kRecordBytes;
    if (got == 0) break;
    visit_records(base::Bytes(buffer).first(got), salt_of(header_), visit);
    end_bytes_ += got;
  }
}

void Journal::start() {
  file_->resize(0);
  file_->write_at(0, header_);
  file_->sync();
  end_bytes_ = kHeaderBytes;
}

void Journal::append(std::span<const JournalRecord> records) {
  if (records.empty()) return;
  std::vector<std::byte> bytes(records.size() * kRecordBytes);
  for (std::size_t i = 0; i < records.size(); ++i)
    store_record(records[i], salt_of(header_),
                 base::MutableBytes(bytes).subspan(i * kRecordBytes, kRecordBytes));
  // One write and one sync for all records of a batch.
  file_->write_at(end_bytes_, bytes);
  file_->sync();
  end_bytes_ += bytes.size();
}

}  // namespace sluice::fetch
