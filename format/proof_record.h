#pragma once
// Which parts of a container were proven before, kept in a small file so that the next start need not prove
// them again:
//
//   magic 8 bytes, version u32, number of parts u32
//   device, inode, size, modification and change time of the container's file: 5 x 8 bytes
//   the container's root and the SHA-256 of its directory: 2 x 32 bytes
//   a bit a part, lowest first, filled up with zeros to whole bytes
//   SHA-256 of all that stands before it
//
// The record belongs to one state of one file. Whatever is not exactly that counts for nothing, so that a
// record which is cut, damaged, stale or another file's costs a proof and never stands for one. It is no
// defence against somebody who can write this user's files.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"

namespace sluice::format {

/// Raised when what "proven" asks of a part changes.
constexpr std::uint32_t kProofRecordVersion = 1;

/// What a record belongs to.
struct ProofSubject {
  base::FileIdentity file;
  base::Sha256 root;
  base::Sha256 directory_sha256;

  friend bool operator==(const ProofSubject&, const ProofSubject&) = default;
};

struct ProofRecord {
  ProofSubject subject;
  std::vector<bool> proven;  ///< by part
};

[[nodiscard]] std::vector<std::byte> encode_proof_record(const ProofRecord& record);
/// Nothing for all that encode_proof_record would not have written.
[[nodiscard]] std::optional<ProofRecord> decode_proof_record(base::Bytes bytes);

}  // namespace sluice::format
