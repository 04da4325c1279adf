#pragma once
// The record of the parts of a container that have been verified, in a small file, so that the next start
// need not verify them again:
//
//   magic 8 bytes, version u32, number of parts u32
//   device, inode, size, modification and change time of the container's file: 5 x 8 bytes
//   the container's root and the SHA-256 of its directory: 2 x 32 bytes
//   one bit for each part, lowest first, padded with zeros to whole bytes
//   SHA-256 of everything before it
//
// The record belongs to one state of one file. A record that is cut, damaged, stale or another file's is
// ignored, so it costs another verification and never replaces one. So is one that another user than this one
// and root can have written.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"

namespace sluice::format {

/// Incremented when the checks that a part must pass to be "proven" change.
constexpr std::uint32_t kProofRecordVersion = 1;

/// The state of a file to which a record belongs.
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
/// Nothing for bytes that encode_proof_record would not have written.
[[nodiscard]] std::optional<ProofRecord> decode_proof_record(base::Bytes bytes);

}  // namespace sluice::format
