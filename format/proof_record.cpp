// The record of proven parts as bytes (layout in proof_record.h). Any difference from what
// encode_proof_record() writes makes the record void, since a wrong bit would let unverified weights pass as
// verified. The trailing SHA-256 detects torn writes and damage; it does not protect against somebody who can
// write the record.

#include "format/proof_record.h"

#include <algorithm>
#include <string_view>

#include "base/hasher.h"

namespace sluice::format {
namespace {

constexpr std::string_view kMagic = "SLUICEpf";
// Offsets in the record:
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kCountAt = 12;
constexpr std::size_t kDeviceAt = 16;
constexpr std::size_t kInodeAt = 24;
constexpr std::size_t kSizeAt = 32;
constexpr std::size_t kModifiedAt = 40;
constexpr std::size_t kChangedAt = 48;
constexpr std::size_t kRootAt = 56;
constexpr std::size_t kDirectoryAt = 88;
constexpr std::size_t kBitsAt = 120;
constexpr std::size_t kDigestBytes = base::Sha256::kBytes;

std::size_t record_bytes(std::size_t part_count) {
  return kBitsAt + static_cast<std::size_t>(base::divide_up(part_count, 8)) + kDigestBytes;
}

void put(base::MutableBytes out, std::size_t offset, const base::Sha256& digest) {
  std::ranges::copy(digest.bytes, out.subspan(offset, kDigestBytes).begin());
}

base::Sha256 take(base::Bytes bytes, std::size_t offset) {
  base::Sha256 digest;
  std::ranges::copy(bytes.subspan(offset, kDigestBytes), digest.bytes.begin());
  return digest;
}

}  // namespace

std::vector<std::byte> encode_proof_record(const ProofRecord& record) {
  std::vector<std::byte> bytes(record_bytes(record.proven.size()));
  const base::MutableBytes out = bytes;
  std::ranges::copy(base::as_bytes(kMagic), out.begin());
  base::store_le(out, kVersionAt, kProofRecordVersion);
  base::store_le(out, kCountAt, static_cast<std::uint32_t>(record.proven.size()));
  const auto& [file, root, directory_sha256] = record.subject;
  base::store_le(out, kDeviceAt, file.device);
  base::store_le(out, kInodeAt, file.inode);
  base::store_le(out, kSizeAt, file.size_bytes);
  base::store_le(out, kModifiedAt, file.modified_ns);
  base::store_le(out, kChangedAt, file.changed_ns);
  put(out, kRootAt, root);
  put(out, kDirectoryAt, directory_sha256);
  for (std::size_t part = 0; part < record.proven.size(); ++part)
    if (record.proven[part]) out[kBitsAt + part / 8] |= std::byte{1} << (part % 8);
  const std::size_t end = bytes.size() - kDigestBytes;
  put(out, end, base::hash<base::Sha256>(base::Bytes(bytes).first(end)));
  return bytes;
}

std::optional<ProofRecord> decode_proof_record(base::Bytes bytes) {
  if (bytes.size() < record_bytes(0) || base::as_text(bytes.first(kMagic.size())) != kMagic ||
      base::load_le<std::uint32_t>(bytes, kVersionAt) != kProofRecordVersion)
    return std::nullopt;
  const std::size_t part_count = base::load_le<std::uint32_t>(bytes, kCountAt);
  // This bounds the number of parts, which comes from the file, before memory is allocated for them.
  if (bytes.size() != record_bytes(part_count)) return std::nullopt;
  const std::size_t end = bytes.size() - kDigestBytes;
  if (base::hash<base::Sha256>(bytes.first(end)) != take(bytes, end)) return std::nullopt;

  ProofRecord record;
  record.subject.file = {
      base::load_le<std::uint64_t>(bytes, kDeviceAt), base::load_le<std::uint64_t>(bytes, kInodeAt),
      base::load_le<std::uint64_t>(bytes, kSizeAt), base::load_le<std::int64_t>(bytes, kModifiedAt),
      base::load_le<std::int64_t>(bytes, kChangedAt)};
  record.subject.root = take(bytes, kRootAt);
  record.subject.directory_sha256 = take(bytes, kDirectoryAt);
  record.proven.resize(part_count);
  for (std::size_t part = 0; part < part_count; ++part)
    record.proven[part] = (bytes[kBitsAt + part / 8] >> (part % 8) & std::byte{1}) != std::byte{0};
  if (!std::ranges::equal(encode_proof_record(record), bytes))
    return std::nullopt;  // padding bits are not zero
  return record;
}

}  // namespace sluice::format
