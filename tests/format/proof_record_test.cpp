#include "format/proof_record.h"

#include <doctest/doctest.h>

#include <random>

#include "base/hasher.h"

namespace sluice::format {
namespace {

ProofRecord sample(std::size_t part_count) {
  ProofRecord record;
  record.subject.file = {2049, 77, 9535589, 1'700'000'000'123'456'789, 1'700'000'001'000'000'001};
  record.subject.root = base::hash<base::Sha256>(base::as_bytes("root"));
  record.subject.directory_sha256 = base::hash<base::Sha256>(base::as_bytes("directory"));
  std::mt19937 random(static_cast<unsigned>(part_count));
  for (std::size_t i = 0; i < part_count; ++i) record.proven.push_back(random() % 3 == 0);
  return record;
}

}  // namespace

TEST_CASE("a record of proofs comes back as it was written") {
  for (const std::size_t part_count : {0u, 1u, 7u, 8u, 9u, 311u}) {
    const ProofRecord record = sample(part_count);
    const auto found = decode_proof_record(encode_proof_record(record));
    REQUIRE(found.has_value());
    CHECK(found->subject == record.subject);
    CHECK(found->proven == record.proven);
  }
}

TEST_CASE("a record that is cut, goes on or has one wrong bit counts for nothing") {
  const auto good = encode_proof_record(sample(43));
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes)
    CHECK_FALSE(decode_proof_record(base::Bytes(good).first(bytes)).has_value());
  auto bad = good;
  bad.push_back(std::byte{0});
  CHECK_FALSE(decode_proof_record(bad).has_value());
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      bad = good;
      bad[at] ^= std::byte{1} << bit;
      CHECK_FALSE(decode_proof_record(bad).has_value());
    }
  }
}

TEST_CASE("a record with the right checksum that nobody would have written counts for nothing") {
  const auto rehash = [](std::vector<std::byte> bytes) {
    const auto digest = base::hash<base::Sha256>(base::Bytes(bytes).first(bytes.size() - 32));
    std::ranges::copy(digest.bytes, bytes.end() - 32);
    return bytes;
  };
  const auto good = encode_proof_record(sample(43));
  CHECK(decode_proof_record(rehash(good)).has_value());
  auto bits_behind_the_last = good;
  bits_behind_the_last[good.size() - 33] |= std::byte{0x80};
  CHECK_FALSE(decode_proof_record(rehash(bits_behind_the_last)).has_value());
  auto of_another_version = good;
  of_another_version[8] = std::byte{2};
  CHECK_FALSE(decode_proof_record(rehash(of_another_version)).has_value());
  auto with_more_parts = good;
  with_more_parts[15] = std::byte{0xFF};
  CHECK_FALSE(decode_proof_record(rehash(with_more_parts)).has_value());
}

}  // namespace sluice::format
